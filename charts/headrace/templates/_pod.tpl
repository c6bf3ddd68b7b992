{{- /* The template of a component's pods: (root, component). */}}
{{- define "headrace.pod" -}}
{{- $root := index . 0 }}{{ $component := index . 1 }}{{ $values := $root.Values -}}
metadata:
  labels:
    {{- include "headrace.podLabels" (list $root $component.name) | nindent 4 }}
    {{- with $component.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $component.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "headrace.fullname" $root }}-{{ $component.name }}
  automountServiceAccountToken: {{ $component.api | default false }}
  # A Service named headrace-ingress would set HEADRACE_INGRESS_PORT, to something that is not a port.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ $component.terminationGracePeriodSeconds }}
  {{- include "headrace.podSecurity" . | nindent 2 }}
  {{- with $values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  {{- with $component.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  containers:
    - name: {{ $component.name }}
      image: {{ include "headrace.image" (list $root ($component.name | replace "in-memory" "ingress") $component.image) }}
      imagePullPolicy: {{ $component.image.pullPolicy | default $values.image.pullPolicy }}
      args:
        - {{ $component.name }}
        {{- if and (eq $component.name "controller") $component.api }}
        - --kubernetes
        {{- end }}
        {{- with $component.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      env:
        {{- include "headrace.envList" . | trim | nindent 8 }}
      ports:
        {{- with $component.port }}
        - {name: {{ include "headrace.portName" $component }}, containerPort: {{ . }}}
        {{- end }}
        - {name: management, containerPort: {{ $component.management }}}
      # Not /startupz: it fails while Kafka is not available, and a restart would not repair that.
      startupProbe:
        httpGet: {path: /livez, port: management}
        periodSeconds: 2
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /livez, port: management}
        periodSeconds: 10
        timeoutSeconds: 5
      readinessProbe:
        httpGet: {path: /readyz, port: management}
        periodSeconds: 5
        timeoutSeconds: 5
      resources:
        {{- toYaml $component.resources | nindent 8 }}
      {{- include "headrace.containerSecurity" . | nindent 6 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- if $component.state }}
        - {name: state, mountPath: /var/lib/headrace}
        {{- end }}
        {{- if $component.kafka.existingSecret }}
        - {name: kafka, mountPath: /etc/headrace/kafka, readOnly: true}
        {{- end }}
        {{- if $component.certificate }}
        - {name: certificate, mountPath: /etc/headrace/certificate, readOnly: true}
        {{- end }}
        {{- if eq $values.mode "standalone" }}
        {{- if eq $component.name "controller" }}
        - {name: api, mountPath: /etc/headrace/api, readOnly: true}
        {{- else if eq $component.name "sources" }}
        - {name: client, mountPath: /etc/headrace/client, readOnly: true}
        {{- end }}
        {{- end }}
        {{- with $component.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: {}
    {{- if $component.state }}
    # Which record was in progress when the watchdog ended the process: must outlive a restart of the container.
    - name: state
      emptyDir: {sizeLimit: 16Mi}
    {{- end }}
    {{- with $component.kafka.existingSecret }}
    - name: kafka
      secret: {secretName: {{ . }}, defaultMode: 0440}
    {{- end }}
    {{- with $component.certificate }}
    - name: certificate
      secret: {secretName: {{ . }}, defaultMode: 0440}
    {{- end }}
    {{- if eq $values.mode "standalone" }}
    {{- if eq $component.name "controller" }}
    - name: api
      secret: {secretName: {{ include "headrace.apiSecret" $root }}, defaultMode: 0440}
    {{- else if eq $component.name "sources" }}
    {{- include "headrace.clientVolume" $root | nindent 4 }}
    {{- end }}
    {{- end }}
    {{- with $component.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $component.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $component.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $component.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if $component.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- $selector := dict "labelSelector" (dict "matchLabels" (include "headrace.selector" (list $root $component.name) | fromYaml)) }}
    {{- range $component.topologySpreadConstraints }}
    - {{ toYaml (merge (deepCopy .) $selector) | nindent 6 | trim }}
    {{- end }}
  {{- end }}
{{- end }}

{{- /* The profile "restricted" of the Pod Security Standards, for a pod. */}}
{{- define "headrace.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- /* The same for a container. */}}
{{- define "headrace.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* Name of the port that a component serves. */}}
{{- define "headrace.portName" -}}
{{ if or (eq .name "controller") .certificate }}https{{ else }}http{{ end }}
{{- end }}

{{- /* `env` of a container: the chart's variables, over them those of the values: (root, component). */}}
{{- define "headrace.envList" -}}
{{- $root := index . 0 }}{{ $component := index . 1 -}}
{{- $env := mergeOverwrite (include "headrace.env" . | fromYaml) $component.env -}}
{{- range $component.extraEnv }}{{ $env = omit $env .name }}{{ end }}
{{- range $name, $value := $env }}
{{- /* A number is text of JSON: Go writes large ones with an exponent. */}}
- {name: {{ $name }}, value: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}}
{{- end }}
{{- $taken := keys $env }}
{{- range $component.extraEnv }}{{ $taken = append $taken .name }}{{ end }}
{{- if $component.kafka.existingSecret }}
{{- range $name, $entry := dict "HEADRACE_KAFKA_SECURITY_PROTOCOL" (dict "key" "protocol") "HEADRACE_KAFKA_SASL_MECHANISM" (dict "key" "sasl.mechanism" "optional" true) }}
{{- if not (has $name $taken) }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef: {{ merge (dict "name" $component.kafka.existingSecret) $entry | toJson }}
{{- end }}
{{- end }}
{{- end }}
{{- $instance := get (dict "dispatcher" "HEADRACE_DISPATCHER_INSTANCE" "controller" "HEADRACE_CONTROLLER_INSTANCE") $component.name }}
{{- if and $instance (not (has $instance $taken)) }}
- name: {{ $instance }}
  valueFrom:
    fieldRef: {fieldPath: metadata.name}
{{- end }}
{{- with $component.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* What a client of the standalone API needs: kubeconfig, token and CA. */}}
{{- define "headrace.clientVolume" -}}
- name: client
  projected:
    defaultMode: 0440
    sources:
      - configMap:
          name: {{ include "headrace.fullname" . }}-api-client
          items: [{key: kubeconfig, path: kubeconfig}]
      - secret:
          name: {{ include "headrace.apiSecret" . }}
          items: [{key: token, path: token}, {key: ca.crt, path: ca.crt}]
{{- end }}
