{{- /* What `tallygate-operator run` is told, besides where Redis and the ledger are. */}}
{{- define "tallygate.args" -}}
- run
- --source=kubernetes
- --admin=:{{ .Values.admin.port }}
- --log-level={{ .Values.log.level }}
- --log-format={{ .Values.log.format }}
{{- if .Values.migrate }}
- --migrate
{{- end }}
{{- with .Values.secretNamespaces }}
- --secret-namespaces={{ join "," . }}
{{- end }}
{{- if .Values.webhook.enabled }}
{{- include "tallygate.webhookArgs" . }}
{{- end }}
{{- if .Values.api.enabled }}
- --api=:{{ .Values.api.port }}
{{- if .Values.api.tls.secretName }}
- --api-tls-cert=/etc/tallygate/api-tls/tls.crt
- --api-tls-key=/etc/tallygate/api-tls/tls.key
{{- else if .Values.api.insecure }}
- --api-insecure
{{- else }}
{{- fail "api: set api.tls.secretName to a Secret of type kubernetes.io/tls, or api.insecure=true where something in front of it ends TLS" }}
{{- end }}
{{- if .Values.api.serviceTokens.secretName }}
- --api-service-tokens-file=/etc/tallygate/api/service_tokens.json
{{- end }}
{{- if .Values.api.providers.secretName }}
- --api-providers-file=/etc/tallygate/api/providers.json
{{- end }}
{{- if .Values.api.jwks.secretName }}
- --api-jwks-file=/etc/tallygate/api/jwks.json
- --api-jwt-issuer={{ required "api.jwks.issuer: the iss that JWTs must have" .Values.api.jwks.issuer }}
- --api-jwt-audience={{ required "api.jwks.audience: the aud that JWTs must name" .Values.api.jwks.audience }}
{{- else if not (or .Values.api.serviceTokens.secretName .Values.api.providers.secretName) }}
{{- fail "api: nobody could call it: set api.serviceTokens.secretName, api.jwks.secretName or api.providers.secretName" }}
{{- end }}
{{- end }}
{{- range $name, $value := .Values.settings }}
- {{ printf "--%s=%v" $name $value | quote }}
{{- end }}
{{- end }}

{{- define "tallygate.webhookArgs" -}}
{{- $name := include "tallygate.fullname" . }}
- --webhook=:{{ .Values.webhook.port }}
- --webhook-service={{ .Release.Namespace }}/{{ $name }}-webhook
- --webhook-configuration={{ $name }}
{{- if .Values.webhook.certificates.secretName }}
- --webhook-certificates=/etc/tallygate/webhook
{{- else }}
- --webhook-secret={{ .Release.Namespace }}/{{ $name }}-webhook-certificates
{{- end }}
{{- with .Values.sidecar }}
- --sidecar-image={{ include "tallygate.image" (dict "root" $ "image" .image) }}
- --sidecar-image-pull-policy={{ .image.pullPolicy }}
{{- with .imagePullSecrets }}
- --sidecar-pull-secrets={{ join "," . }}
{{- end }}
- --sidecar-secret={{ .secretName }}
{{- with .namespaces }}
- --sidecar-namespaces={{ join "," . }}
{{- end }}
{{- with .ledgerUrl }}
- --sidecar-ledger-url={{ . }}
{{- end }}
{{- if .privateAuthority }}
- --sidecar-private-ca
{{- end }}
- --capture={{ .capture }}
- --sidecar-port={{ .port }}
- --sidecar-admin-port={{ .adminPort }}
- --sidecar-cpu-request={{ .resources.requests.cpu }}
- --sidecar-memory-request={{ .resources.requests.memory }}
- --sidecar-cpu-limit={{ .resources.limits.cpu }}
- --sidecar-memory-limit={{ .resources.limits.memory }}
- --sidecar-log-mib={{ .logMiB }}
- --sidecar-user={{ .user }}
{{- end }}
{{- end }}

{{- define "tallygate.fileMounts" -}}
{{- if .Values.api.enabled }}
- {name: api, mountPath: /etc/tallygate/api, readOnly: true}
{{- if .Values.api.tls.secretName }}
- {name: api-tls, mountPath: /etc/tallygate/api-tls, readOnly: true}
{{- end }}
{{- end }}
{{- if and .Values.webhook.enabled .Values.webhook.certificates.secretName }}
- {name: webhook, mountPath: /etc/tallygate/webhook, readOnly: true}
{{- end }}
{{- end }}

{{- /* What is read again as it changes. One folder of several Secrets: a changed Secret is a changed file, which the operator reads again. */}}
{{- define "tallygate.fileVolumes" -}}
{{- if .Values.api.enabled }}
- name: api
  projected:
    defaultMode: 0440
    sources:
    {{- with .Values.api.serviceTokens }}{{ if .secretName }}
    - secret: {name: {{ .secretName }}, items: [{key: {{ .key }}, path: service_tokens.json}]}
    {{- end }}{{ end }}
    {{- with .Values.api.providers }}{{ if .secretName }}
    - secret: {name: {{ .secretName }}, items: [{key: {{ .key }}, path: providers.json}]}
    {{- end }}{{ end }}
    {{- with .Values.api.jwks }}{{ if .secretName }}
    - secret: {name: {{ .secretName }}, items: [{key: {{ .key }}, path: jwks.json}]}
    {{- end }}{{ end }}
{{- if .Values.api.tls.secretName }}
- name: api-tls
  secret: {secretName: {{ .Values.api.tls.secretName }}, defaultMode: 0440}
{{- end }}
{{- end }}
{{- if and .Values.webhook.enabled .Values.webhook.certificates.secretName }}
- name: webhook
  secret: {secretName: {{ .Values.webhook.certificates.secretName }}, defaultMode: 0440}
{{- end }}
{{- end }}
