{{/* What the cluster has: operators, and objects of an earlier revision. */}}

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

{{- define "gleaner.certificate" -}}
{{- if .Values.ingress.enabled }}
{{- include "gleaner.enabled" (dict "root" . "value" .Values.certificate.enabled "api" "cert-manager.io/v1") }}
{{- end }}
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
