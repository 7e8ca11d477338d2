{{/* "true" if the chart's Valkey has replicas, and so Sentinels. */}}
{{- define "gleaner.replicated" -}}
{{- if and .Values.valkey.enabled (gt (int .Values.valkey.replicas) 0) }}true{{ end }}
{{- end }}

{{/*
The DNS names of the pods of a StatefulSet: JSON. Each has a Service, so that its name and address stay, whatever happens to
the pod. dict root component count
*/}}
{{- define "gleaner.nodeNames" -}}
{{- $names := list }}
{{- range until (int .count) }}
{{- $names = append $names (printf "%s-%s-%d.%s.svc" (include "gleaner.fullname" $.root) $.component . $.root.Release.Namespace) }}
{{- end }}
{{- toJson $names }}
{{- end }}

{{/* The three Sentinels, as scripts ($.join is a space) or URLs need them. dict root join */}}
{{- define "gleaner.sentinels" -}}
{{- include "gleaner.nodeNames" (dict "root" .root "component" "sentinel" "count" 3) | fromJsonArray | join .join }}
{{- end }}

{{/* Every name of the server's certificate: also those that replicas would need, so that they can be added later. */}}
{{- define "gleaner.valkeyCertificateNames" -}}
{{- $host := include "gleaner.valkeyHost" . }}
{{- $names := list $host (first (splitList "." $host)) (printf "%s.cluster.local" $host) "localhost" }}
{{- $names = concat $names (include "gleaner.nodeNames" (dict "root" . "component" "valkey" "count" 5) | fromJsonArray) }}
{{- toJson (concat $names (include "gleaner.nodeNames" (dict "root" . "component" "sentinel" "count" 3) | fromJsonArray)) }}
{{- end }}

{{/* The arguments with which valkey-cli enters over the network. */}}
{{- define "gleaner.valkeyTlsOptions" -}}
{{- if .Values.valkey.tls.enabled }}--tls --cacert /etc/valkey-tls/ca.crt{{ end }}
{{- end }}

{{/* How the scripts of a pod name it, and ask the Sentinels. dict root */}}
{{- define "gleaner.nodeEnv" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- {name: NODE, value: $(POD_NAME).{{ .Release.Namespace }}.svc}
{{- include "gleaner.sentinelEnv" . }}
{{- end }}

{{- define "gleaner.sentinelEnv" }}
- {name: SENTINELS, value: {{ include "gleaner.sentinels" (dict "root" . "join" " ") }}}
- {name: TLS_OPTIONS, value: {{ include "gleaner.valkeyTlsOptions" . | quote }}}
{{- end }}

{{/* A pod's affinity where two of a kind must not share a node. dict root component */}}
{{- define "gleaner.separateNodes" -}}
{{- if eq .root.Values.valkey.sameNode "never" }}
affinity:
  podAntiAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "gleaner.selector" . | nindent 12 }}
{{- end }}
{{- end }}

{{/* A Service for each pod of a StatefulSet. It names the pod before it is ready, too. dict root component count port (name, number) */}}
{{- define "gleaner.nodeServices" -}}
{{- range $name := include "gleaner.nodeNames" . | fromJsonArray }}
{{- $pod := first (splitList "." $name) }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $pod }}
  namespace: {{ $.root.Release.Namespace }}
  labels:
    {{- include "gleaner.labels" $ | nindent 4 }}
spec:
  publishNotReadyAddresses: true
  selector:
    {{- include "gleaner.selector" $ | nindent 4 }}
    statefulset.kubernetes.io/pod-name: {{ $pod }}
  ports:
    - {name: {{ $.portName }}, port: {{ $.port }}, targetPort: {{ $.portName }}}
{{- end }}
{{- end }}

{{/* Who may reach servers or Sentinels. dict root clients (components) port */}}
{{- define "gleaner.storeIngress" -}}
- from:
    - podSelector:
        matchLabels:
          {{- include "gleaner.selector" (dict "root" .root) | nindent 10 }}
        matchExpressions:
          - {key: app.kubernetes.io/component, operator: In, values: {{ toJson .clients }}}
    {{- if include "gleaner.keda" .root }}
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: {{ .root.Values.keda.namespace }}}}
    {{- end }}
  ports: [{protocol: TCP, port: {{ .port }}}]
{{- end }}
