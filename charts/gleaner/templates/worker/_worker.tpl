{{/* A model's workers: values, resources, image, update. */}}

{{/* A model's values: the worker's defaults under what `models` says. dict root own */}}
{{- define "gleaner.workerValues" -}}
{{- include "gleaner.values" (dict "root" .root "component" "worker" "own" .own) }}
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

{{/* How a model's workers are updated: GPUs are what a quota or a pool counts, so an update must not need one more. */}}
{{- define "gleaner.workerUpdate" -}}
{{- $gpu := or (hasKey (.resources.limits | default dict) "nvidia.com/gpu") (hasKey (.resources.limits | default dict) .gpu.sharedResource) }}
{{- toJson (default (ternary (dict "maxSurge" 0 "maxUnavailable" 1) (dict "maxSurge" 1 "maxUnavailable" 0) $gpu) .rollingUpdate) }}
{{- end }}

{{/* A model's image. dict root values */}}
{{- define "gleaner.workerImage" }}
{{- $image := merge (dict "root" .root "ours" true) .root.Values.images.worker }}
{{- with .values.imageTag }}{{ $image = mergeOverwrite $image (dict "tag" . "digest" "") }}{{ end }}
{{- with .values.imageDigest }}{{ $_ := set $image "digest" . }}{{ end }}
{{- include "gleaner.image" $image }}
{{- end }}
