{{/* Pods: the values of a component over those of all pods, and the template that every workload shares. */}}

{{/*
A component's values over those of all pods: maps are merged, lists added, the rest replaced. `own` are those of a model.
dict root component own
*/}}
{{- define "gleaner.values" -}}
{{- $merged := deepCopy .root.Values.pods }}
{{- $component := get .root.Values (ternary "helmTest" .component (eq .component "test")) }}
{{- range $layer := list $component .own }}
{{- range $key, $value := deepCopy (default dict $layer) }}
{{- $below := get $merged $key }}
{{- if and (kindIs "map" $below) (kindIs "map" $value) }}
{{- $value = mergeOverwrite $below $value }}
{{- else if and (kindIs "slice" $below) (kindIs "slice" $value) }}
{{- $value = concat $below $value | uniq }}
{{- end }}
{{- $_ := set $merged $key $value }}
{{- end }}
{{- end }}
{{- toJson $merged }}
{{- end }}

{{/* image: dict root repository tag digest ours */}}
{{- define "gleaner.image" -}}
{{- $name := .repository -}}
{{- $global := .root.Values.global.imageRegistry | default "" | trimSuffix "/" -}}
{{- if and .ours .root.Values.images.registry }}{{ $name = printf "%s/%s" (trimSuffix "/" .root.Values.images.registry) .repository -}}
{{- else if $global }}{{ $name = printf "%s/%s" $global (trimPrefix "docker.io/" .repository) }}{{ end -}}
{{- if .digest }}{{ $name }}@{{ .digest }}{{ else }}{{ $name }}:{{ default .root.Chart.AppVersion .tag }}{{ end }}
{{- end }}

{{/* Seconds from SIGTERM to SIGKILL: the process's own grace, and time to give back what it did not finish. */}}
{{- define "gleaner.grace" -}}
{{- $merged := mergeOverwrite (dict "shutdown_grace_s" 60) .root.Values.settings .settings -}}
{{- add (ceil $merged.shutdown_grace_s | int) 20 }}
{{- end }}

{{/* Security context of each container that the chart defines. */}}
{{- define "gleaner.containerSecurity" -}}
{{- toYaml .Values.pods.securityContext }}
{{- end }}

{{/*
Labels and annotations of a pod. A change of `config`, or of a password that the process reads at its start, makes new pods.
dict root component own model port config
*/}}
{{- define "gleaner.podMeta" -}}
{{- $values := include "gleaner.values" . | fromJson }}
{{- $annotations := dict }}
{{- $scraped := include "gleaner.enabled" (dict "root" .root "value" .root.Values.monitoring.annotations "api" "") }}
{{- if eq (toString .root.Values.monitoring.annotations) "auto" }}{{ $scraped = not (include "gleaner.podMonitors" .root) }}{{ end }}
{{- if and .port $scraped }}
{{- $annotations = dict "prometheus.io/scrape" "true" "prometheus.io/port" (toString .port) "prometheus.io/path" "/metrics" }}
{{- end }}
{{- with .config }}{{ $_ := set $annotations "checksum/config" (sha256sum .) }}{{ end }}
{{- with include "gleaner.secretChecksum" . }}{{ $_ := set $annotations "checksum/secrets" . }}{{ end -}}
labels:
  {{- include "gleaner.podLabels" . | nindent 2 }}
  {{- with $values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with mergeOverwrite $annotations $values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The fields that the spec of every pod has. dict root component own model */}}
{{- define "gleaner.podSpec" -}}
{{- $values := include "gleaner.values" . | fromJson }}
serviceAccountName: {{ $values.serviceAccountName | default (printf "%s-%s" (include "gleaner.fullname" .root) .component) }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $values.podSecurityContext }}
securityContext: {{ toJson . }}
{{- end }}
{{- $pullSecrets := list }}
{{- range concat (.root.Values.global.imagePullSecrets | default list) .root.Values.images.pullSecrets }}
{{- $pullSecrets = append $pullSecrets (kindIs "string" . | ternary (dict "name" .) .) }}
{{- end }}
{{- with $pullSecrets }}
imagePullSecrets: {{ toJson (uniq .) }}
{{- end }}
{{- range $field := list "priorityClassName" "runtimeClassName" "nodeSelector" "tolerations" "affinity" }}
{{- with get $values $field }}
{{ $field }}: {{ toJson . }}
{{- end }}
{{- end }}
{{- if $values.topologySpreadConstraints }}
topologySpreadConstraints: {{ toJson $values.topologySpreadConstraints }}
{{- else }}
topologySpreadConstraints:
  {{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "gleaner.selector" $ | nindent 8 }}
  {{- end }}
{{- end }}
{{- end }}

{{/*
A workload's pod template: `spec`, which has what is particular to it, over what every pod has, with the values of `pods`.
The first container is the main one. dict root component own model port config spec (YAML)
*/}}
{{- define "gleaner.podTemplate" -}}
{{- $values := include "gleaner.values" . | fromJson }}
{{- $pod := mergeOverwrite (include "gleaner.podSpec" . | fromYaml) (fromYaml .spec) $values.podSpec }}
{{- $main := first $pod.containers }}
{{- $_ := set $main "securityContext" $values.securityContext }}
{{- range $field, $more := dict "env" $values.extraEnv "envFrom" $values.extraEnvFrom "volumeMounts" $values.extraVolumeMounts }}
{{- if $more }}{{ $_ := set $main $field (concat (get $main $field | default list) $more) }}{{ end }}
{{- end }}
{{- range $name, $fields := $values.probes }}
{{- $probe := printf "%sProbe" $name }}
{{- if $fields }}{{ $_ := set $main $probe (mergeOverwrite (get $main $probe | default dict) $fields) }}{{ end }}
{{- end }}
{{- range $field, $more := dict "containers" $values.sidecars "initContainers" $values.initContainers "volumes" $values.extraVolumes }}
{{- if $more }}{{ $_ := set $pod $field (concat (get $pod $field | default list) $more) }}{{ end }}
{{- end }}
{{- with $values.terminationGracePeriodSeconds }}{{ $_ := set $pod "terminationGracePeriodSeconds" (int .) }}{{ end -}}
metadata:
  {{- include "gleaner.podMeta" . | nindent 2 }}
spec:
  {{- toYaml $pod | nindent 2 }}
{{- end }}

{{/*
Probes of the second port. dict startup (seconds) until (path that ends the start). Gateway and courier have started when
they live: on /readyz a ledger that is away would restart them for ever. A worker has started when its model is loaded.
*/}}
{{- define "gleaner.probes" -}}
startupProbe:
  httpGet: {path: {{ .until }}, port: metrics}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: {{ div (add .startup 1) 2 }}
livenessProbe:
  httpGet: {path: /livez, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- end }}
