{{/* The name of the operator's objects: mailpods-operator, with the release's name unless that is mailpods. */}}
{{- define "mailpods.name" -}}
{{- $name := .Values.nameOverride | default "mailpods-operator" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if eq .Release.Name .Chart.Name -}}
{{- $name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels that select the operator's pod. Not name mailpods: that is what mail pods are selected by. The values
change names, never these: alerts and dashboard know the operator by them. */}}
{{- define "mailpods.selector" -}}
app.kubernetes.io/name: mailpods-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of every object. Helm itself adds managed-by. */}}
{{- define "mailpods.labels" -}}
{{- include "mailpods.labelsAnd" (list . dict) -}}
{{- end -}}

{{/* The same, and others: (list . .Values.podLabels). Of two with one name ours holds. */}}
{{- define "mailpods.labelsAnd" -}}
{{- $ := index . 0 -}}
{{- $own := include "mailpods.selector" $ | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/version" $.Chart.AppVersion -}}
{{- $_ := set $own "app.kubernetes.io/part-of" "mailpods" -}}
{{- toYaml (mustMerge $own (index . 1 | default dict) ($.Values.commonLabels | default dict)) -}}
{{- end -}}

{{/* The field annotations of an object, where there are any: (list . (dict "own" "…")). */}}
{{- define "mailpods.annotations" -}}
{{- with mustMerge (index . 1) ((index . 0).Values.commonAnnotations | default dict) -}}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}

{{/* An image of the values: (list . .Values.image). */}}
{{- define "mailpods.image" -}}
{{- $image := index . 1 -}}
{{- $tag := $image.tag | default (ternary "" (index . 0).Chart.AppVersion (not (empty $image.digest))) -}}
{{- $image.repository -}}
{{- with $tag }}:{{ . }}{{ end -}}
{{- with $image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/* The field imagePullSecrets, of names and of {name: …}. */}}
{{- define "mailpods.pullSecrets" -}}
{{- with .Values.imagePullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ kindIs "map" . | ternary (get (kindIs "map" . | ternary . dict) "name") . }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* Whether this run writes the MailServer: only once the cluster knows the kind (see values.yaml). */}}
{{- define "mailpods.writesServer" -}}
{{- if and (.Values.mailServer).enabled (.Capabilities.APIVersions.Has "mailpods.io/v1alpha1/MailServer") -}}
yes
{{- end -}}
{{- end -}}

{{/* Where the MailServer of the values lives. */}}
{{- define "mailpods.serverNamespace" -}}
{{- (.Values.mailServer).namespace | default .Release.Namespace -}}
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
