{{/* The name of the operator's objects: mailpods-operator, with the release's name unless that is mailpods. */}}
{{- define "mailpods.name" -}}
{{- if eq .Release.Name .Chart.Name -}}
mailpods-operator
{{- else -}}
{{- printf "%s-mailpods-operator" .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels that select the operator's pod. Not name mailpods: that is what mail pods are selected by. */}}
{{- define "mailpods.selector" -}}
app.kubernetes.io/name: mailpods-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of every object. Helm itself adds managed-by. */}}
{{- define "mailpods.labels" -}}
{{ include "mailpods.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: mailpods
{{- end -}}

{{/* Whether this run writes the MailServer: only once the cluster knows the kind (see values.yaml). */}}
{{- define "mailpods.writesServer" -}}
{{- if and .Values.mailServer.enabled (.Capabilities.APIVersions.Has "mailpods.io/v1alpha1/MailServer") -}}
yes
{{- end -}}
{{- end -}}

{{/* Where the MailServer of the values lives. */}}
{{- define "mailpods.serverNamespace" -}}
{{- .Values.mailServer.namespace | default .Release.Namespace -}}
{{- end -}}

{{/* Verbs for those who manage a kind. */}}
{{- define "mailpods.manage" -}}
[create, delete, deletecollection, get, list, patch, update, watch]
{{- end -}}

{{/* What an administrator of users may do: R-000-11 everywhere, R-000-12 in one namespace. */}}
{{- define "mailpods.userAdministration" -}}
- apiGroups: [mailpods.io]
  resources: [mailboxes, mailaliases, mailinglists]
  verbs: {{ include "mailpods.manage" . }}
# To know which domains there are; to make and delete them is for mail-config.
- apiGroups: [mailpods.io]
  resources: [maildomains]
  verbs: [get, list, watch]
{{- end -}}
