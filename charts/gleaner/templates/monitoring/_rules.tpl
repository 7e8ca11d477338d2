{{/*
The groups of a rule file for this release: only its own series, its links, labels and waiting times, without the alerts
that are turned off. dict root path
*/}}
{{- define "gleaner.ruleGroups" -}}
{{- $alerts := .root.Values.monitoring.alerts }}
{{- $matchers := printf "namespace=%q" .root.Release.Namespace }}
{{- with $alerts.matchers }}{{ $matchers = printf "%s,%s" $matchers . }}{{ end }}
{{- $groups := list }}
{{- range $group := (.root.Files.Get .path | fromYaml).groups }}
{{- $rules := list }}
{{- range $rule := $group.rules }}
{{- /* Every selector of our metrics gets the matchers: those with braces first, then those without. */}}
{{- $expr := regexReplaceAll "(\\b(?:gleaner[_:]|process_)[a-z0-9_:]+)[{]" $rule.expr (printf "${1}{%s," $matchers) }}
{{- $expr = regexReplaceAll "(\\b(?:gleaner[_:]|process_)[a-z0-9_:]+)([^a-z0-9_:{]|$)" $expr (printf "${1}{%s}${2}" $matchers) }}
{{- if eq (get $rule "record") "gleaner:workers:min" }}{{ $expr = printf "%s%s" (include "gleaner.scaledToZero" (dict "root" $.root "matchers" $matchers)) $expr }}{{ end }}
{{- if eq $rule.alert "GleanerBackupTooOld" }}{{ $expr = replace "> 3600" (printf "> %d" (int $alerts.backupSeconds)) $expr }}{{ end }}
{{- $rule = set $rule "expr" $expr }}
{{- if not $rule.alert }}{{ $rules = append $rules $rule }}
{{- else if not (has $rule.alert (include "gleaner.disabledAlerts" $.root | fromJsonArray)) }}
{{- $rules = append $rules (include "gleaner.alertRule" (dict "root" $.root "rule" $rule) | fromJson) }}
{{- end }}
{{- end }}
{{- $groups = append $groups (set $group "rules" $rules) }}
{{- end }}
{{- $groups | toJson }}
{{- end }}

{{/* An alerting rule as this release wants it. dict root rule */}}
{{- define "gleaner.alertRule" -}}
{{- $alerts := .root.Values.monitoring.alerts }}
{{- $rule := .rule }}
{{- $labels := set $rule.labels "severity" (get $alerts.severities $rule.labels.severity) }}
{{- $_ := set $rule "labels" (merge $labels $alerts.labels) }}
{{- range $name, $url := dict "runbook_url" $alerts.runbookUrl "dashboard_url" $alerts.dashboardUrl }}
{{- if $url }}{{ $_ := set $rule.annotations $name (printf "%s/%s" (trimSuffix "/" $url) (base (get $rule.annotations $name))) }}
{{- else }}{{ $_ := unset $rule.annotations $name }}{{ end }}
{{- end }}
{{- if eq $rule.alert "GleanerNoWorker" }}{{ $_ := set $rule "for" (printf "%ds" (include "gleaner.coldStart" .root | int)) }}{{ end }}
{{- with get $alerts.for $rule.alert }}{{ $_ := set $rule "for" . }}{{ end }}
{{- $rule | toJson }}
{{- end }}

{{/*
Minimum 0 of the models that KEDA scales to zero, as the beginning of an expression: an HPA's own minimum is 1, since KEDA
does the last step itself. Further triggers, such as cron, may hold workers without work. dict root matchers
*/}}
{{- define "gleaner.scaledToZero" -}}
{{- $models := list }}
{{- range $model, $own := .root.Values.models }}
{{- $auto := (include "gleaner.workerValues" (dict "root" $.root "own" $own) | fromJson).autoscaling }}
{{- if and (include "gleaner.keda" $.root) $auto.enabled (eq (int $auto.minReplicas) 0) (not $auto.extraTriggers) }}{{ $models = append $models (regexQuoteMeta $model) }}{{ end }}
{{- end }}
{{- with $models }}0 * max by (cluster, namespace, model) (gleaner_model_slug_info{ {{- $.matchers }},model=~{{ join "|" . | quote }}}) or {{ end }}
{{- end }}

{{/* Seconds from zero workers to the first one that is ready: a node, then the slowest model. */}}
{{- define "gleaner.coldStart" -}}
{{- $slowest := 0 }}
{{- range $own := .Values.models }}
{{- $slowest = max $slowest (include "gleaner.workerValues" (dict "root" $ "own" $own) | fromJson).startupSeconds }}
{{- end }}
{{- add $slowest .Values.monitoring.alerts.nodeSeconds }}
{{- end }}

{{/* Alerts that are turned off, or that would fire for ever: a store without an append-only file was chosen. */}}
{{- define "gleaner.disabledAlerts" -}}
{{- $disabled := .Values.monitoring.alerts.disabled }}
{{- if eq (.Values.gateway.settings.durability | default "") "process" }}{{ $disabled = append $disabled "GleanerAofFailing" }}{{ end }}
{{- if not .Values.backup.enabled }}{{ $disabled = concat $disabled (list "GleanerBackupTooOld" "GleanerBackupFailed") }}{{ end }}
{{- $disabled | toJson }}
{{- end }}
