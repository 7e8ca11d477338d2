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
{{- range $name, $_ := get $resources $kind | default dict }}
{{- if hasPrefix "nvidia.com/" $name }}
{{- $part := $.gpu.sharedResource | default (printf "%s.shared" $name) }}
{{- $_ := set $resources $kind (set (omit (get $resources $kind) $name) $part 1) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- toJson $resources }}
{{- end }}

{{/* The devices that a worker asks for, whole GPUs, parts or MIG slices: JSON, resource -> number. Only their names have a slash. */}}
{{- define "gleaner.workerDevices" -}}
{{- $devices := dict }}
{{- range $name, $count := (include "gleaner.workerResources" . | fromJson).limits | default dict }}
{{- if contains "/" $name }}{{ $_ := set $devices $name (int $count) }}{{ end }}
{{- end }}
{{- toJson $devices }}
{{- end }}

{{/* How a model's workers are updated: devices are what a quota or a pool counts, so an update must not need one more. */}}
{{- define "gleaner.workerUpdate" -}}
{{- $without := empty (include "gleaner.workerDevices" . | fromJson) }}
{{- toJson (default (ternary (dict "maxSurge" 1 "maxUnavailable" 0) (dict "maxSurge" 0 "maxUnavailable" 1) $without) .rollingUpdate) }}
{{- end }}

{{/* The devices of all models' workers at their maximum, extra pods of an update included: JSON, resource -> number. */}}
{{- define "gleaner.maximumDevices" -}}
{{- $sum := dict }}
{{- range $own := .Values.models }}
{{- $values := include "gleaner.workerValues" (dict "root" $ "own" $own) | fromJson }}
{{- $scaled := and (include "gleaner.keda" $) $values.autoscaling.enabled }}
{{- $most := ternary $values.autoscaling.maxReplicas $values.replicas (not (empty $scaled)) | int }}
{{- $surge := (include "gleaner.workerUpdate" $values | fromJson).maxSurge | default 0 | toString }}
{{- if hasSuffix "%" $surge }}{{ $surge = divf (mulf $most (trimSuffix "%" $surge | float64)) 100 | ceil | toString }}{{ end }}
{{- range $name, $count := include "gleaner.workerDevices" $values | fromJson }}
{{- $_ := set $sum $name (add (get $sum $name | default 0 | int) (mul (add $most (int $surge)) (int $count))) }}
{{- end }}
{{- end }}
{{- toJson $sum }}
{{- end }}

{{/* A model's image. dict root values */}}
{{- define "gleaner.workerImage" }}
{{- $image := merge (dict "root" .root "ours" true) .root.Values.images.worker }}
{{- with .values.imageTag }}{{ $image = mergeOverwrite $image (dict "tag" . "digest" "") }}{{ end }}
{{- with .values.imageDigest }}{{ $_ := set $image "digest" . }}{{ end }}
{{- include "gleaner.image" $image }}
{{- end }}
