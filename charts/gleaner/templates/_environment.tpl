{{/* Environment variables and mounts of the processes: settings, the store's addresses, keys. */}}

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

{{/* A quarter of Valkey's memory in bytes, in Valkey's units: k, m and g are powers of 1000, kb, mb and gb of 1024. */}}
{{- define "gleaner.quarterOfStore" -}}
{{- $size := lower .Values.valkey.maxmemory }}
{{- $units := dict "" 1 "b" 1 "k" 1000 "kb" 1024 "m" 1000000 "mb" 1048576 "g" 1000000000 "gb" 1073741824 }}
{{- div (mul (regexFind "^[0-9]+" $size | int64) (get $units (regexFind "[a-z]*$" $size) | int64)) 4 }}
{{- end }}

{{/* The Secret with an external server's URLs for a process. dict root component */}}
{{- define "gleaner.storeSecret" -}}
{{- get .root.Values.store.secrets .component | default .root.Values.store.secret }}
{{- end }}

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
