{{/* Names and labels of every object. */}}

{{- define "gleaner.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 30 | trimSuffix "-" }}
{{- else }}{{ $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 30 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* A model's slug, as jobs.naming.slug makes it. */}}
{{- define "gleaner.slug" -}}
{{- $plain := regexReplaceAll "[^a-z0-9]+" (lower .) "-" | trimAll "-" -}}
{{- if eq $plain . }}{{ $plain }}{{ else }}{{ $plain }}-{{ sha256sum . | trunc 6 }}{{ end }}
{{- end }}

{{- define "gleaner.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- with .model }}
gleaner.io/model: {{ include "gleaner.slug" . }}
{{- end }}
{{- end }}

{{- define "gleaner.labels" -}}
{{ include "gleaner.podLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{/* Labels of a pod: without the versions, so that a new chart alone restarts nothing, the ledger least of all */}}
{{- define "gleaner.podLabels" -}}
{{ include "gleaner.selector" . }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* GLEANER_MODELS: every model and every split, the default first: the first is the one of jobs that name none. */}}
{{- define "gleaner.modelNames" -}}
{{- $names := list .Values.defaultModel -}}
{{- range $name := concat (keys .Values.models) (keys .Values.modelSplits) | uniq | sortAlpha }}
{{- if ne $name $.Values.defaultModel }}{{ $names = append $names $name }}{{ end }}
{{- end -}}
{{- $entries := list -}}
{{- range $name := $names }}
{{- $shares := list }}
{{- range $model, $weight := get $.Values.modelSplits $name | default dict }}{{ $shares = append $shares (printf "%s:%d" $model (int $weight)) }}{{ end }}
{{- $entries = append $entries (ternary (printf "%s=%s" $name (join "|" $shares)) $name (gt (len $shares) 0)) }}
{{- end -}}
{{- join "," $entries }}
{{- end }}

{{- define "gleaner.valkeyHost" -}}{{ include "gleaner.fullname" . }}-valkey.{{ .Release.Namespace }}.svc{{- end }}
