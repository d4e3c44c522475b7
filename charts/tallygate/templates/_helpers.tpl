{{- define "tallygate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- /* The release's name where it says tallygate already. Short enough for what is appended to it. */}}
{{- define "tallygate.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "tallygate.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "tallygate.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "tallygate.operator" -}}
{{ include "tallygate.fullname" . }}-operator
{{- end }}

{{- define "tallygate.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "tallygate.operator" .) .Values.serviceAccount.name }}
{{- else -}}
{{ required "serviceAccount.name: name the account to use, or set serviceAccount.create=true" .Values.serviceAccount.name }}
{{- end -}}
{{- end }}

{{- /* Selectors never change; labels do. Called with (dict "root" $ "component" NAME). */}}
{{- define "tallygate.selector" -}}
app.kubernetes.io/name: {{ include "tallygate.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "tallygate.labels" -}}
{{ include "tallygate.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: tallygate
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* Called with (dict "root" $ "image" VALUES). */}}
{{- define "tallygate.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "tallygate.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "tallygate.bundledSecret" -}}
{{ include "tallygate.fullname" . }}-bundled
{{- end }}

{{- /* Where a URL is: Secret, key and, of an authority of one's own, caKey. Called with (dict "root" $ "what" "redis" "values" .Values.redis). */}}
{{- define "tallygate.urlSecret" -}}
{{- if .values.bundled.enabled -}}
name: {{ include "tallygate.bundledSecret" .root }}
key: {{ .what }}-url
{{- else if .values.existingSecret.name -}}
{{- toYaml .values.existingSecret -}}
{{- else -}}
{{- fail (printf "%s: set %s.existingSecret.name to a Secret with its URL, or, for a trial, %s.bundled.enabled=true" .what .what .what) -}}
{{- end -}}
{{- end }}

{{- /* The same lines wherever the program looks for Redis and the ledger. */}}
{{- define "tallygate.connectionEnv" -}}
- {name: TALLYGATE_REDIS_URL_FILE, value: /etc/tallygate/redis/url}
{{- with .Values.redis }}
{{- if and .existingSecret.caKey (not .bundled.enabled) }}
- {name: TALLYGATE_REDIS_CA_FILE, value: /etc/tallygate/redis/ca.crt}
{{- end }}
{{- if and .existingSecret.certKey (not .bundled.enabled) }}
- {name: TALLYGATE_REDIS_CERT_FILE, value: /etc/tallygate/redis/tls.crt}
- {name: TALLYGATE_REDIS_KEY_FILE, value: /etc/tallygate/redis/tls.key}
{{- end }}
{{- if or .insecure .bundled.enabled }}
- {name: TALLYGATE_REDIS_INSECURE, value: "true"}
{{- end }}
{{- end }}
- {name: TALLYGATE_DATABASE_URL_FILE, value: /etc/tallygate/database/url}
{{- if or .Values.postgres.insecure .Values.postgres.bundled.enabled }}
- {name: TALLYGATE_DATABASE_INSECURE, value: "true"}
{{- end }}
{{- if .Values.stripe.enabled }}
- {name: STRIPE_API_KEY_FILE, value: /etc/tallygate/stripe/api-key}
{{- else }}
- {name: TALLYGATE_STRIPE, value: disabled}
{{- end }}
{{- end }}

{{- define "tallygate.connectionMounts" -}}
- {name: redis, mountPath: /etc/tallygate/redis, readOnly: true}
- {name: database, mountPath: /etc/tallygate/database, readOnly: true}
{{- if .Values.stripe.enabled }}
- {name: stripe, mountPath: /etc/tallygate/stripe, readOnly: true}
{{- end }}
{{- end }}

{{- define "tallygate.connectionVolumes" -}}
{{- $root := . }}
{{- range $volume, $what := dict "redis" "redis" "database" "postgres" }}
{{- $secret := include "tallygate.urlSecret" (dict "root" $root "what" $what "values" (index $root.Values $what)) | fromYaml }}
- name: {{ $volume }}
  secret:
    secretName: {{ $secret.name }}
    defaultMode: 0440
    items:
    - {key: {{ $secret.key }}, path: url}
    {{- with $secret.caKey }}
    - {key: {{ . }}, path: ca.crt}
    {{- end }}
    {{- if $secret.certKey }}
    - {key: {{ $secret.certKey }}, path: tls.crt}
    - {key: {{ required "redis.existingSecret.keyKey: name the key that belongs to certKey" $secret.keyKey }}, path: tls.key}
    {{- end }}
{{- end }}
{{- if .Values.stripe.enabled }}
- name: stripe
  secret:
    secretName: {{ required "stripe.existingSecret.name: name the Secret that holds Stripe's key, or set stripe.enabled=false" .Values.stripe.existingSecret.name }}
    defaultMode: 0440
    items: [{key: {{ .Values.stripe.existingSecret.key }}, path: api-key}]
{{- end }}
{{- end }}
