{{/* Egress rules that several NetworkPolicies share. */}}

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
