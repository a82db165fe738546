{{/* Name of the chart, for labels. */}}
{{- define "air-executor.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Name of the release's objects; leaves room for a suffix. */}}
{{- define "air-executor.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "air-executor.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ include "air-executor.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* The component distinguishes managers from the release's other pods. */}}
{{- define "air-executor.selectorLabels" -}}
app.kubernetes.io/name: {{ include "air-executor.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: manager
{{- end }}

{{- define "air-executor.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "air-executor.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "air-executor.claim" -}}
{{- default (include "air-executor.fullname" .) .Values.persistence.existingClaim }}
{{- end }}

{{/* Twelve hex digits that identify the state directory. The manager derives the same for its Lease and runners. */}}
{{- define "air-executor.instance" -}}
{{- printf "%s/%s/%s" .Release.Namespace (include "air-executor.claim" .) .Values.persistence.subPath | sha256sum | trunc 12 }}
{{- end }}

{{- define "air-executor.lease" -}}
air-executor-{{ include "air-executor.instance" . }}
{{- end }}

{{/* Image reference from values: dict "image" … "root" $ */}}
{{- define "air-executor.image" -}}
{{- if .image.digest }}
{{- printf "%s@%s" .image.repository .image.digest }}
{{- else }}
{{- printf "%s:%s" .image.repository (default .root.Chart.AppVersion .image.tag) }}
{{- end }}
{{- end }}

{{/* Volume mounts shared by the manager and the pod of `helm test`. */}}
{{- define "air-executor.volumeMounts" -}}
- name: state
  mountPath: /project/.air-executor
  {{- with .Values.persistence.subPath }}
  subPath: {{ . | quote }}
  {{- end }}
- name: config
  mountPath: /project/air-executor.toml
  subPath: air-executor.toml
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- end }}

{{- define "air-executor.volumes" -}}
- name: state
  persistentVolumeClaim:
    claimName: {{ include "air-executor.claim" . | quote }}
- name: config
  configMap:
    name: {{ include "air-executor.fullname" . | quote }}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- end }}

{{/* Not empty if a Service for metrics exists. */}}
{{- define "air-executor.metricsService" -}}
{{- if or .Values.metrics.service.enabled .Values.metrics.serviceMonitor.enabled }}yes{{ end }}
{{- end }}

{{/* Not empty if metrics are read from outside of the pod. */}}
{{- define "air-executor.metrics" -}}
{{- if or .Values.metrics.podMonitor.enabled (include "air-executor.metricsService" .) }}yes{{ end }}
{{- end }}

{{/* Not empty if the files of runs come over HTTP. */}}
{{- define "air-executor.overHttp" -}}
{{- if eq .Values.transport.type "http" }}yes{{ end }}
{{- end }}

{{/* Address of the manager for the pods of runs. */}}
{{- define "air-executor.transportUrl" -}}
{{- $service := printf "http://%s-transport.%s.svc:%s/" (include "air-executor.fullname" .) .Release.Namespace (include "air-executor.port" .) }}
{{- default $service .Values.transport.url }}
{{- end }}

{{/* Access modes of the claim: a list. */}}
{{- define "air-executor.accessModes" -}}
{{- $default := ternary "ReadWriteOnce" "ReadWriteMany" (eq .Values.transport.type "http") }}
{{- toYaml (default (list $default) .Values.persistence.accessModes) }}
{{- end }}

{{/* Not empty if managers cannot be on two nodes at a time, because only one of them can have the volume. */}}
{{- define "air-executor.oneNode" -}}
{{- if and (include "air-executor.overHttp" .) (not .Values.persistence.existingClaim) (not (contains "ReadWriteMany" (include "air-executor.accessModes" .))) }}yes{{ end }}
{{- end }}

{{/* Not empty if the manager must be reachable from outside of its pod. */}}
{{- define "air-executor.listens" -}}
{{- if or (include "air-executor.overHttp" .) (include "air-executor.metrics" .) (include "air-executor.web" .) }}yes{{ end }}
{{- end }}

{{/* Not empty if page and API are served outside of the pod. */}}
{{- define "air-executor.web" -}}
{{- if or .Values.web.enabled .Values.ingress.enabled .Values.gateway.enabled }}yes{{ end }}
{{- end }}

{{/* Secret with the tokens of an admin and of a viewer. */}}
{{- define "air-executor.tokens" -}}
{{- default (printf "%s-tokens" (include "air-executor.fullname" .)) .Values.web.existingSecret }}
{{- end }}

{{/* A viewer's token, as a reference to a key of a Secret; empty if there is none. */}}
{{- define "air-executor.viewerToken" -}}
{{- if .Values.metrics.tokenSecret -}}
name: {{ .Values.metrics.tokenSecret | quote }}
key: token
{{- else if include "air-executor.web" . -}}
name: {{ include "air-executor.tokens" . | quote }}
key: viewer
{{- end }}
{{- end }}

{{/* Address of the page behind the Ingress or the Gateway; empty if there is neither. */}}
{{- define "air-executor.url" -}}
{{- if .Values.ingress.enabled }}
{{- printf "http%s://%s/" (ternary "s" "" (ne .Values.ingress.tlsSecret "")) .Values.ingress.host }}
{{- else if .Values.gateway.enabled }}
{{- printf "http%s://%s/" (ternary "s" "" .Values.gateway.tls) .Values.gateway.host }}
{{- end }}
{{- end }}

{{/* What a ServiceMonitor and a PodMonitor read: a list of one endpoint. */}}
{{- define "air-executor.endpoints" -}}
- port: http
  path: /metrics
  interval: {{ .interval }}
  {{- with include "air-executor.viewerToken" .root }}
  authorization:
    credentials:
      {{- . | nindent 6 }}
  {{- end }}
{{- end }}

{{/* Port of metrics, probes and page: the manager's default. */}}
{{- define "air-executor.port" -}}
9464
{{- end }}
