{{- /* Names and labels. */}}

{{- define "headrace.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- /* Prefix of all names. 40 characters leave room for the suffixes, and for the label that a StatefulSet adds to its pods. */}}
{{- define "headrace.fullname" -}}
{{- $name := include "headrace.name" . -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains $name .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "headrace.selector" -}}
{{- $root := index . 0 }}{{ $component := index . 1 -}}
app.kubernetes.io/name: {{ include "headrace.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ $component }}
{{- end }}

{{- /* Labels of pods: (root, component). Not the chart's version, which would replace all pods when it changes. */}}
{{- define "headrace.podLabels" -}}
{{- $root := index . 0 -}}
{{ include "headrace.selector" . }}
app.kubernetes.io/part-of: headrace
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- end }}

{{- /* Labels of every other object: (root, component). */}}
{{- define "headrace.labels" -}}
{{- $root := index . 0 -}}
{{ include "headrace.podLabels" . }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* Metadata of an object: (root, component, suffix of its name). */}}
{{- define "headrace.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "headrace.fullname" $root }}-{{ index . 2 }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "headrace.labels" . | nindent 2 }}
{{- end }}

{{- /* The same for an object of the cluster. */}}
{{- define "headrace.clusterMetadata" -}}
{{- $root := index . 0 -}}
name: {{ include "headrace.fullname" $root }}-{{ index . 2 }}
labels:
  {{- include "headrace.labels" . | nindent 2 }}
{{- end }}

{{- /* URL of the Service of a component: (root, component). */}}
{{- define "headrace.serviceUrl" -}}
{{- $root := index . 0 -}}
{{- $secure := and (eq (index . 1) "ingress") (include "headrace.ingressCertificate" $root) -}}
http{{ if $secure }}s{{ end }}://{{ include "headrace.fullname" $root }}-{{ index . 1 }}.{{ $root.Release.Namespace }}.svc.{{ $root.Values.clusterDomain }}
{{- end }}

{{- /* Label `headrace` of the metrics: the installation. */}}
{{- define "headrace.installation" -}}
{{ .Values.metrics.installation | default (printf "%s/%s" .Release.Namespace (include "headrace.fullname" .)) }}
{{- end }}

{{- /* Secret with the certificate of the ingress; empty for plain HTTP. */}}
{{- define "headrace.ingressCertificate" -}}
{{ dig "tls" "existingSecret" "" .Values.ingress }}
{{- end }}

{{- define "headrace.ingressUrl" -}}
{{ .Values.ingress.url | default (include "headrace.serviceUrl" (list . "ingress")) }}
{{- end }}

{{- /* Secret with the token and the certificate of the standalone API. */}}
{{- define "headrace.apiSecret" -}}
{{ .Values.standalone.existingSecret | default (printf "%s-api" (include "headrace.fullname" .)) }}
{{- end }}

{{- /* The image of a service: (root, service, the component's image values). */}}
{{- define "headrace.image" -}}
{{- $root := index . 0 }}{{ $service := index . 1 }}{{ $own := index . 2 -}}
{{- $image := mergeOverwrite (deepCopy $root.Values.image) $own -}}
{{- $repository := $own.repository | default (printf "%s/%s" $root.Values.image.repository $service) -}}
{{- $name := list $image.registry $repository | compact | join "/" -}}
{{- if $image.digest -}}
{{ $name }}@{{ $image.digest }}
{{- else -}}
{{ $name }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- end }}
{{- end }}
