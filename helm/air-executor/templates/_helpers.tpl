{{/* Name of the chart, as labels have it. */}}
{{- define "air-executor.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Name of everything of the release; short enough for a suffix. */}}
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

{{/* The component tells the managers from whatever else is of the release. */}}
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

{{/* Twelve digits for where the state directory lies, as the manager computes them: its Lease and its runners carry them. */}}
{{- define "air-executor.instance" -}}
{{- printf "%s/%s/%s" .Release.Namespace (include "air-executor.claim" .) .Values.persistence.subPath | sha256sum | trunc 12 }}
{{- end }}

{{- define "air-executor.lease" -}}
air-executor-{{ include "air-executor.instance" . }}
{{- end }}

{{/* An image of the values: dict "image" … "root" $ */}}
{{- define "air-executor.image" -}}
{{- if .image.digest }}
{{- printf "%s@%s" .image.repository .image.digest }}
{{- else }}
{{- printf "%s:%s" .image.repository (default .root.Chart.AppVersion .image.tag) }}
{{- end }}
{{- end }}

{{/* What the manager and the pod of `helm test` both have: who they are and where the state directory is. */}}
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

{{/* Not empty if the manager is to be reached from outside of its pod. */}}
{{- define "air-executor.listens" -}}
{{- if or .Values.metrics.service.enabled .Values.metrics.serviceMonitor.enabled }}yes{{ end }}
{{- end }}

{{/* The port of metrics, probes and page; the manager's default. */}}
{{- define "air-executor.port" -}}
9464
{{- end }}
