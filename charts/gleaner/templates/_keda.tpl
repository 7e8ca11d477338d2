{{/* What KEDA's triggers have in common: the server with the ledger and the login there. */}}

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
