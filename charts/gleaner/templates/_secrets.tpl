{{/*
The Secrets that the chart generates where they are absent, and what the present ones contain.

Everything about them is in "gleaner.secrets", computed once per rendering: random values must be the same for the Secret,
for its checksum and for the note.
*/}}

{{- define "gleaner.storeUsers" -}}["gateway", "worker", "courier", "flower", "keda", "backup"]{{- end }}

{{/* Users of replicas and Sentinels: they get passwords in any case, so that replicas can be added later. */}}
{{- define "gleaner.replicationUsers" -}}["replication", "sentinel"]{{- end }}

{{/* The users of the chart's Valkey that must have a password. */}}
{{- define "gleaner.valkeyUsers" -}}
{{- $users := include "gleaner.storeUsers" . | fromJsonArray }}
{{- if include "gleaner.replicated" . }}{{ $users = concat $users (include "gleaner.replicationUsers" . | fromJsonArray) }}{{ end }}
{{- toJson $users }}
{{- end }}

{{/*
Every Secret that this release names: JSON, name -> {keys, made, others, optional, type, data, new}. `made`: the chart may
generate it; `others`: an operator makes it; `optional`: all but `helm test` works without it. `data` is empty where the Secret
is absent and not generated; `new`: it is generated now.
*/}}
{{- define "gleaner.secrets" -}}
{{- if not (hasKey .Values "computedSecrets") }}
{{- $wanted := include "gleaner.wantedSecrets" . | fromJson }}
{{- $generate := eq (toString .Values.secrets.generate) "true" }}
{{- if eq (toString .Values.secrets.generate) "auto" }}{{ $generate = include "gleaner.live" . }}{{ end }}
{{- range $name, $secret := $wanted }}
{{- $live := dict }}
{{- if include "gleaner.live" $ }}{{ $live = lookup "v1" "Secret" $.Release.Namespace $name }}{{ end }}
{{- $_ := set $secret "data" (default dict (dig "data" dict $live)) }}
{{- $_ := set $secret "new" false }}
{{- if and $generate $secret.made (not $live) }}{{ $_ := set $secret "new" true }}{{ end }}
{{- end }}
{{- if $generate }}{{ include "gleaner.fillSecrets" (dict "root" . "secrets" $wanted) }}{{ end }}
{{- $_ := set .Values "computedSecrets" $wanted }}
{{- end }}
{{- toJson .Values.computedSecrets }}
{{- end }}

{{- define "gleaner.wantedSecrets" -}}
{{- $secrets := .Values.secrets }}
{{- $external := .Values.externalSecrets }}
{{- $by := dict "made" (not $external.enabled) "others" $external.enabled }}
{{- $wanted := dict $secrets.keysSecret (merge (dict "keys" (list $secrets.keysSecretKey)) $by) }}
{{- $_ := set $wanted .Values.helmTest.secret (merge (dict "keys" (list .Values.helmTest.key) "optional" true) $by) }}
{{- with $secrets.encryptionSecret }}{{ $_ := set $wanted . (merge (dict "keys" (list $secrets.encryptionSecretKey)) $by) }}{{ end }}
{{- with $secrets.redactSecret }}{{ $_ := set $wanted . (merge (dict "keys" (list $secrets.redactSecretKey)) $by) }}{{ end }}
{{- if .Values.flower.enabled }}
{{- $_ := set $wanted .Values.flower.passwordSecret (merge (dict "keys" (list .Values.flower.passwordSecretKey)) $by) }}
{{- end }}
{{- if .Values.backup.enabled }}
{{- $_ := set $wanted .Values.backup.configSecret (dict "keys" list "made" false "others" $external.enabled) }}
{{- end }}
{{- if .Values.valkey.enabled }}
{{- $keys := list }}
{{- range include "gleaner.valkeyUsers" . | fromJsonArray }}{{ $keys = append $keys (printf "%s-password" .) }}{{ end }}
{{- $_ := set $wanted .Values.valkey.passwordSecret (merge (dict "keys" $keys) $by) }}
{{- if .Values.valkey.tls.enabled }}
{{- $others := or .Values.valkey.tls.issuerRef (and $external.enabled $external.valkeyTlsRemote) | empty | not }}
{{- $tls := dict "keys" (list "tls.crt" "tls.key" "ca.crt") "type" "kubernetes.io/tls" "made" (not $others) "others" $others }}
{{- $_ := set $wanted .Values.valkey.tls.secret $tls }}
{{- end }}
{{- else }}
{{- range $name, $secret := include "gleaner.externalStoreSecrets" . | fromJson }}
{{- $_ := set $wanted $name (dict "keys" $secret.keys "made" false "others" (and $external.enabled $secret.remote | empty | not)) }}
{{- end }}
{{- end }}
{{- if and .Values.ingress.enabled .Values.ingress.tls .Values.ingress.tlsSecret }}
{{- $others := or (include "gleaner.certificate" .) (and $external.enabled $external.ingressTlsRemote) | empty | not }}
{{- $_ := set $wanted .Values.ingress.tlsSecret (dict "keys" (list "tls.crt" "tls.key") "made" false "others" $others) }}
{{- end }}
{{- toJson $wanted }}
{{- end }}

{{/*
The Secrets for an external server that processes and KEDA read: JSON, name -> {keys, remote}. `remote`: their path for
External Secrets; empty if an operator makes them.
*/}}
{{- define "gleaner.externalStoreSecrets" -}}
{{- $store := .Values.store }}
{{- $external := .Values.externalSecrets }}
{{- $wanted := dict }}
{{- range $component := list "gateway" "worker" "courier" "flower" }}
{{- if or (ne $component "flower") $.Values.flower.enabled }}
{{- $name := include "gleaner.storeSecret" (dict "root" $ "component" $component) }}
{{- $secret := get $wanted $name | default (dict "keys" list "remote" "") }}
{{- $keys := ternary (list "broker-url") (list "ledger-url" "broker-url") (eq $component "flower") }}
{{- $remote := eq $name $store.secret | ternary $external.storeRemote (get $external.storeRemotes $component) }}
{{- $_ := set $wanted $name (dict "keys" (concat $secret.keys $keys | uniq) "remote" ($secret.remote | default $remote)) }}
{{- end }}
{{- end }}
{{- if and $store.kedaSecret (or $external.enabled (include "gleaner.keda" .)) }}
{{- $keys := list "username" "password" }}
{{- if $store.sentinel.auth }}{{ $keys = append $keys "sentinel-password" }}{{ end }}
{{- $_ := set $wanted $store.kedaSecret (dict "keys" $keys "remote" $external.storeKedaRemote) }}
{{- end }}
{{- toJson $wanted }}
{{- end }}

{{/* Put random values into the new Secrets. dict root secrets */}}
{{- define "gleaner.fillSecrets" -}}
{{- $values := .root.Values }}
{{- $keys := get .secrets $values.secrets.keysSecret }}
{{- $test := get .secrets $values.helmTest.secret }}
{{- /* The test's key is one of the keys file: with a keys file of yours, it is yours, too. */}}
{{- if not $keys.new }}{{ $_ := set $test "new" false }}{{ end }}
{{- range $name, $secret := .secrets }}
{{- if $secret.new }}
{{- if eq $name $values.helmTest.secret }}
{{- $_ := set $secret.data $values.helmTest.key (printf "gl_%s" (randAlphaNum 43) | b64enc) }}
{{- else if eq $name $values.valkey.tls.secret }}
{{- $host := include "gleaner.valkeyHost" $.root }}
{{- $authority := genCA "gleaner" 3650 }}
{{- $names := include "gleaner.valkeyCertificateNames" $.root | fromJsonArray }}
{{- $made := genSignedCert $host (list "127.0.0.1") $names 3650 $authority }}
{{- $_ := set $secret "data" (dict "tls.crt" (b64enc $made.Cert) "tls.key" (b64enc $made.Key) "ca.crt" (b64enc $authority.Cert)) }}
{{- else if has $name (list $values.secrets.encryptionSecret $values.secrets.redactSecret) }}
{{- $_ := set $secret.data (first $secret.keys) (randBytes 32 | b64enc) }}
{{- else if ne $name $values.secrets.keysSecret }}
{{- range $secret.keys }}{{ $_ := set $secret.data . (randAlphaNum 40 | b64enc) }}{{ end }}
{{- if eq $name $values.valkey.passwordSecret }}
{{- range include "gleaner.replicationUsers" $.root | fromJsonArray }}
{{- $_ := set $secret.data (printf "%s-password" .) (randAlphaNum 40 | b64enc) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- if and $keys.new (get $test.data $values.helmTest.key) }}
{{- $key := get $test.data $values.helmTest.key | b64dec }}
{{- $record := dict "key_id" (printf "key_%s" (sha256sum $key | trunc 12)) "sha256" (sha256sum $key) "tenant" "default" "role" "submitter" "name" "helm test" }}
{{- $_ := set $record "created_at" (dateInZone "2006-01-02T15:04:05Z" now "UTC") }}
{{- $_ := set $keys.data $values.secrets.keysSecretKey (dict "version" 1 "keys" (list $record) | toPrettyJson | b64enc) }}
{{- end }}
{{- end }}

{{/*
A checksum of what a component reads from Secrets at its start. The keys file is none of it, as the gateway reads changes by
itself, and Valkey does so, too. dict root component
*/}}
{{- define "gleaner.secretChecksum" -}}
{{- $values := .root.Values }}
{{- $secrets := include "gleaner.secrets" .root | fromJson }}
{{- $read := list }}
{{- if and $values.valkey.enabled (has .component (list "gateway" "worker" "courier" "flower")) }}
{{- $read = append $read (list $values.valkey.passwordSecret (printf "%s-password" .component)) }}
{{- if $values.valkey.tls.enabled }}{{ $read = append $read (list $values.valkey.tls.secret "ca.crt") }}{{ end }}
{{- end }}
{{- if and (not $values.valkey.enabled) (has .component (list "gateway" "worker" "courier" "flower")) }}
{{- $store := include "gleaner.storeSecret" . }}
{{- $read = concat $read (list (list $store "broker-url") (list $store "ledger-url")) }}
{{- end }}
{{- if has .component (list "gateway" "worker" "courier") }}
{{- $read = append $read (list $values.secrets.encryptionSecret $values.secrets.encryptionSecretKey) }}
{{- $read = append $read (list $values.secrets.redactSecret $values.secrets.redactSecretKey) }}
{{- end }}
{{- if eq .component "flower" }}{{ $read = append $read (list $values.flower.passwordSecret $values.flower.passwordSecretKey) }}{{ end }}
{{- $found := list }}
{{- range $read }}{{ $found = append $found (dig (first .) "data" (last .) "" $secrets) }}{{ end }}
{{- with compact $found }}{{ sha256sum (join " " .) }}{{ end }}
{{- end }}
