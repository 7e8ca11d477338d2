{{/* Names ------------------------------------------------------------------ */}}

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

{{/* What the cluster has ------------------------------------------------------ */}}

{{/* "true" if a value of auto, true or false comes to true. dict root value api (that auto asks the cluster for) */}}
{{- define "gleaner.enabled" -}}
{{- if or (eq (toString .value) "true") (and (eq (toString .value) "auto") (.root.Capabilities.APIVersions.Has .api)) }}true{{ end }}
{{- end }}

{{- define "gleaner.keda" -}}
{{- include "gleaner.enabled" (dict "root" . "value" .Values.keda.enabled "api" "keda.sh/v1alpha1") }}
{{- end }}

{{- define "gleaner.monitoringApi" -}}
{{- get (dict "prometheus" "monitoring.coreos.com/v1" "azure" "azmonitoring.coreos.com/v1" "google" "monitoring.googleapis.com/v1") .Values.monitoring.operator }}
{{- end }}

{{- define "gleaner.podMonitors" -}}
{{- include "gleaner.enabled" (dict "root" . "value" .Values.monitoring.serviceMonitors "api" (include "gleaner.monitoringApi" .)) }}
{{- end }}

{{/*
Whether `lookup` sees what will be changed. `helm template` knows group versions only, a cluster its kinds, too; Argo CD
passes on the kinds and then applies without Helm, so it has to be told by `gitops`.
*/}}
{{- define "gleaner.live" -}}
{{- if and (.Capabilities.APIVersions.Has "v1/Secret") (not .Values.gitops) }}true{{ end }}
{{- end }}

{{/*
Replicas of a Deployment that an autoscaler owns: at its creation what the autoscaler starts with, later what there is, so
that no upgrade changes it. dict root name initial kind (Deployment or Rollout)
*/}}
{{- define "gleaner.scaledReplicas" -}}
{{- if include "gleaner.live" .root }}
{{- $group := ternary "argoproj.io/v1alpha1" "apps/v1" (eq (toString .kind) "Rollout") }}
{{- $present := lookup $group (default "Deployment" .kind) .root.Release.Namespace .name }}
replicas: {{ if $present }}{{ $present.spec.replicas | int }}{{ else }}{{ .initial }}{{ end }}
{{- end }}
{{- end }}

{{/* image: dict root repository tag digest ours */}}
{{- define "gleaner.image" -}}
{{- $name := .repository -}}
{{- $global := .root.Values.global.imageRegistry | default "" | trimSuffix "/" -}}
{{- if and .ours .root.Values.images.registry }}{{ $name = printf "%s/%s" (trimSuffix "/" .root.Values.images.registry) .repository -}}
{{- else if $global }}{{ $name = printf "%s/%s" $global (trimPrefix "docker.io/" .repository) }}{{ end -}}
{{- if .digest }}{{ $name }}@{{ .digest }}{{ else }}{{ $name }}:{{ default .root.Chart.AppVersion .tag }}{{ end }}
{{- end }}

{{/* Settings and environment ---------------------------------------------- */}}

{{/* A map of settings as environment variables. Numbers through toJson: Helm would print 33554432 as 3.3554432e+07. */}}
{{- define "gleaner.settings" -}}
{{- range $name, $value := . }}
- name: GLEANER_{{ upper $name }}
  {{- if kindIs "slice" $value }}
  value: {{ join "," $value | quote }}
  {{- else if kindIs "string" $value }}
  value: {{ $value | quote }}
  {{- else }}
  value: {{ toJson $value | quote }}
  {{- end }}
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

{{/* The Secret with an external server's URLs for a process. dict root component */}}
{{- define "gleaner.storeSecret" -}}
{{- get .root.Values.store.secrets .component | default .root.Values.store.secret }}
{{- end }}

{{- define "gleaner.valkeyHost" -}}{{ include "gleaner.fullname" . }}-valkey.{{ .Release.Namespace }}.svc{{- end }}

{{/*
How a process reaches ledger and broker, as its own user; the password never stands in a manifest. Flower, which shows
queues and workers, gets the broker alone. dict root component
*/}}
{{- define "gleaner.storeEnv" -}}
{{- $values := .root.Values }}
{{- $ledger := ne .component "flower" }}
{{- if $values.valkey.enabled }}
{{- $tls := $values.valkey.tls.enabled }}
{{- $address := printf "%s://%s:$(VALKEY_PASSWORD)@%s:6379" (ternary "rediss" "redis" $tls) .component (include "gleaner.valkeyHost" .root) }}
{{- $query := ternary "?ssl_ca_certs=/etc/valkey-tls/ca.crt" "" $tls }}
{{- if include "gleaner.replicated" .root }}
{{- $hosts := include "gleaner.sentinels" (dict "root" .root "join" ":26379,") }}
{{- $address = printf "%s+sentinel://%s:$(VALKEY_PASSWORD)@%s:26379/gleaner" (ternary "rediss" "redis" $tls) .component $hosts }}
{{- $login := printf "sentinel_username=%s&sentinel_password=$(VALKEY_PASSWORD)" .component }}
{{- $query = printf "?%s%s" $login (ternary "&ssl_ca_certs=/etc/valkey-tls/ca.crt" "" $tls) }}
{{- end }}
- name: VALKEY_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ $values.valkey.passwordSecret }}, key: {{ .component }}-password}}
{{- if $ledger }}
- name: GLEANER_REDIS_URL
  value: {{ printf "%s/1%s" $address $query | quote }}
{{- end }}
- name: GLEANER_BROKER_URL
  value: {{ printf "%s/0%s" $address $query | quote }}
{{- else }}
{{- $secret := include "gleaner.storeSecret" . }}
{{- if $ledger }}
- name: GLEANER_REDIS_URL
  valueFrom: {secretKeyRef: {name: {{ $secret }}, key: ledger-url}}
{{- end }}
- name: GLEANER_BROKER_URL
  valueFrom: {secretKeyRef: {name: {{ $secret }}, key: broker-url}}
{{- end }}
{{- end }}

{{/* Keys go to those who read texts or webhook secrets, and the key behind redacted values to those who make them. */}}
{{- define "gleaner.encryptionEnv" -}}
{{- $secrets := .root.Values.secrets }}
{{- if and $secrets.encryptionSecret (has .component (list "gateway" "worker" "courier")) }}
- name: GLEANER_ENCRYPTION_KEYS
  valueFrom: {secretKeyRef: {name: {{ $secrets.encryptionSecret }}, key: {{ $secrets.encryptionSecretKey }}}}
{{- end }}
{{- if and $secrets.redactSecret (has .component (list "gateway" "worker")) }}
- name: GLEANER_REDACT_KEY
  valueFrom: {secretKeyRef: {name: {{ $secrets.redactSecret }}, key: {{ $secrets.redactSecretKey }}}}
{{- end }}
{{- end }}

{{/* A quarter of Valkey's memory in bytes, in Valkey's units: k, m and g are powers of 1000, kb, mb and gb of 1024. */}}
{{- define "gleaner.quarterOfStore" -}}
{{- $size := lower .Values.valkey.maxmemory }}
{{- $units := dict "" 1 "b" 1 "k" 1000 "kb" 1024 "m" 1000000 "mb" 1048576 "g" 1000000000 "gb" 1073741824 }}
{{- div (mul (regexFind "^[0-9]+" $size | int64) (get $units (regexFind "[a-z]*$" $size) | int64)) 4 }}
{{- end }}

{{/* The gateway's settings: its own, and under them what other values come to. */}}
{{- define "gleaner.gatewaySettings" -}}
{{- $derived := dict }}
{{- with .Values.gateway.trustedProxies }}{{ $_ := set $derived "trusted_proxies" . }}{{ end }}
{{- if ne .Values.gateway.https "off" }}
{{- $_ := set $derived "https" .Values.gateway.https }}
{{- if .Values.ingress.enabled }}{{ $_ := set $derived "https_hosts" (prepend .Values.ingress.extraHosts .Values.ingress.host) }}
{{- else if .Values.gatewayApi.enabled }}{{ $_ := set $derived "https_hosts" .Values.gatewayApi.hostnames }}
{{- end }}
{{- end }}
{{- if .Values.valkey.enabled }}{{ $_ := set $derived "tenant_max_stored_bytes" (include "gleaner.quarterOfStore" . | int64) }}{{ end }}
{{- mergeOverwrite $derived .Values.gateway.settings | toJson }}
{{- end }}

{{/* Every process: env of a container. dict root component settings (of this process) port */}}
{{- define "gleaner.env" -}}
- name: GLEANER_MODELS
  value: {{ include "gleaner.modelNames" .root | quote }}
- name: GLEANER_METRICS_PORT
  value: {{ .port | quote }}
{{- include "gleaner.storeEnv" . }}
{{- include "gleaner.encryptionEnv" . }}
{{- include "gleaner.settings" (mergeOverwrite (dict) .root.Values.settings .settings) }}
{{- end }}

{{- define "gleaner.tlsMount" -}}
{{- if and .Values.valkey.enabled .Values.valkey.tls.enabled }}
- {name: valkey-tls, mountPath: /etc/valkey-tls, readOnly: true}
{{- end }}
{{- end }}

{{/* Clients get the authority's certificate alone, never the server's key. */}}
{{- define "gleaner.tlsVolume" -}}
{{- if and .Values.valkey.enabled .Values.valkey.tls.enabled }}
- name: valkey-tls
  secret:
    secretName: {{ .Values.valkey.tls.secret }}
    items: [{key: ca.crt, path: ca.crt}]
{{- end }}
{{- end }}

{{/* Pods ------------------------------------------------------------------- */}}

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

{{/* A model's values: the worker's defaults under what `models` says. dict root own */}}
{{- define "gleaner.workerValues" -}}
{{- include "gleaner.values" (dict "root" .root "component" "worker" "own" .own) }}
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

{{/* A worker's resources. One of a shared GPU asks for a part of it, by the name that the device plugin gives such parts. */}}
{{- define "gleaner.workerResources" -}}
{{- $resources := deepCopy .resources }}
{{- if gt (int .gpu.sharedBy) 1 }}
{{- range $kind := list "requests" "limits" }}
{{- $of := get $resources $kind | default dict }}
{{- if hasKey $of "nvidia.com/gpu" }}{{ $_ := set $resources $kind (set (omit $of "nvidia.com/gpu") $.gpu.sharedResource 1) }}{{ end }}
{{- end }}
{{- end }}
{{- toJson $resources }}
{{- end }}

{{- define "gleaner.certificate" -}}
{{- if .Values.ingress.enabled }}
{{- include "gleaner.enabled" (dict "root" . "value" .Values.certificate.enabled "api" "cert-manager.io/v1") }}
{{- end }}
{{- end }}

{{/* How a model's workers are updated: GPUs are what a quota or a pool counts, so an update must not need one more. */}}
{{- define "gleaner.workerUpdate" -}}
{{- $gpu := or (hasKey (.resources.limits | default dict) "nvidia.com/gpu") (hasKey (.resources.limits | default dict) .gpu.sharedResource) }}
{{- toJson (default (ternary (dict "maxSurge" 0 "maxUnavailable" 1) (dict "maxSurge" 1 "maxUnavailable" 0) $gpu) .rollingUpdate) }}
{{- end }}

{{/* What every process's NetworkPolicy may reach to do its work. */}}
{{- define "gleaner.storeEgress" -}}
{{- if .Values.valkey.enabled }}
- to:
    - podSelector:
        matchLabels:
          {{- include "gleaner.selector" (dict "root" . "component" "valkey") | nindent 10 }}
  ports: [{protocol: TCP, port: 6379}]
{{- if include "gleaner.replicated" . }}
- to:
    - podSelector:
        matchLabels:
          {{- include "gleaner.selector" (dict "root" . "component" "sentinel") | nindent 10 }}
  ports: [{protocol: TCP, port: 26379}]
{{- end }}
{{- else }}
- to:
    {{- range .Values.store.networks }}
    - ipBlock: {cidr: {{ . }}}
    {{- end }}
  {{- $ports := list (toString .Values.store.port) }}
  {{- range .Values.store.sentinel.addresses }}{{ $ports = append $ports (last (splitList ":" .)) }}{{ end }}
  ports:
    {{- range uniq $ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}
{{- end }}

{{- define "gleaner.publicEgress" -}}
- to:
    - ipBlock:
        cidr: 0.0.0.0/0
        except: {{ toJson .root.Values.networkPolicy.privateNetworks }}
  ports:
    {{- range .ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}

{{/* The addresses in which a cloud's nodes give pods their identity. */}}
{{- define "gleaner.metadataEgress" -}}
{{- range .Values.networkPolicy.metadataServers }}
- to: [{ipBlock: {cidr: {{ .cidr }}}}]
  ports: [{protocol: TCP, port: {{ .port }}}]
{{- end }}
{{- end }}

{{- define "gleaner.webhookEgress" -}}
{{- include "gleaner.publicEgress" (dict "root" . "ports" .Values.networkPolicy.webhookPorts) }}
{{- with .Values.networkPolicy.webhookNetworks }}
- to:
    {{- range . }}
    - ipBlock: {cidr: {{ . }}}
    {{- end }}
  ports:
    {{- range $.Values.networkPolicy.webhookPorts }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}
{{- end }}

{{/* KEDA ------------------------------------------------------------------- */}}

{{/* Where KEDA looks. The user `keda` of the chart's own Valkey may look at sizes and nothing else. */}}
{{- define "gleaner.kedaAddress" -}}
{{- if .Values.valkey.enabled -}}
{{- if include "gleaner.replicated" . -}}
addresses: {{ include "gleaner.sentinels" (dict "root" . "join" ":26379,") }}:26379
sentinelMaster: gleaner
sentinelUsername: keda
{{ else -}}
address: {{ include "gleaner.valkeyHost" . }}:6379
{{ end -}}
username: keda
enableTLS: {{ .Values.valkey.tls.enabled | quote }}
{{- else -}}
{{- with .Values.store.sentinel.addresses -}}
addresses: {{ join "," . | quote }}
sentinelMaster: {{ $.Values.store.sentinel.master | quote }}
{{ else -}}
address: {{ .Values.store.address }}
{{ end -}}
enableTLS: {{ .Values.store.tls | quote }}
{{- end }}
{{- end }}

{{- define "gleaner.kedaType" -}}
{{- $external := and (not .Values.valkey.enabled) .Values.store.sentinel.addresses }}
{{- if or $external (include "gleaner.replicated" .) }}redis-sentinel{{ else }}redis{{ end }}
{{- end }}

{{- define "gleaner.kedaAuthRef" -}}
{{- if or .Values.valkey.enabled .Values.store.kedaSecret }}
authenticationRef: {name: {{ include "gleaner.fullname" . }}-store}
{{- end }}
{{- end }}
