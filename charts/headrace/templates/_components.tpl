{{- /* The components: what differs between them. */}}

{{- /* Keys in the values of the components that run, as a YAML list. */}}
{{- define "headrace.enabled" -}}
- ingress
- dispatcher
- controller
{{- if .Values.sources.enabled }}
- sources
{{- end }}
{{- if .Values.inMemory.enabled }}
- inMemory
{{- end }}
{{- end }}

{{- /* The values of a component, over those of `common`, with its name, ports and what it needs: (root, key in the values). */}}
{{- define "headrace.component" -}}
{{- $root := index . 0 }}{{ $key := index . 1 -}}
{{- $standalone := eq $root.Values.mode "standalone" -}}
{{- $facts := dict
    "ingress" (dict "name" "ingress" "port" 8080 "management" 9464)
    "dispatcher" (dict "name" "dispatcher" "management" 9465 "state" true "open" true "stateful" true)
    "controller" (dict "name" "controller" "management" 9466 "api" (not $standalone))
    "sources" (dict "name" "sources" "port" 8084 "management" 9468 "api" (not $standalone) "open" true)
    "inMemory" (dict "name" "in-memory" "port" 8082 "management" 9467 "replicas" 1 "state" true "open" true) -}}
{{- $component := mergeOverwrite (deepCopy $root.Values.common) (deepCopy (index $root.Values $key)) (index $facts $key) -}}
{{- if and (eq $key "controller") $standalone }}{{ $_ := set $component "port" 8001 }}{{ end -}}
{{- $scaled := or (dig "autoscaling" "enabled" false $component) (dig "keda" "enabled" false $component) -}}
{{- $_ := set $component "scaled" $scaled -}}
{{- $_ := set $component "kafka" (mergeOverwrite (deepCopy $root.Values.kafka) ($component.kafka | default dict)) -}}
{{- if eq $key "ingress" }}{{ $_ := set $component "certificate" (include "headrace.ingressCertificate" $root) }}{{ end -}}
{{- toYaml $component }}
{{- end }}

{{- /* Environment variables with plain values, by name: (root, component). */}}
{{- define "headrace.env" -}}
{{- $root := index . 0 }}{{ $component := index . 1 }}{{ $values := $root.Values -}}
KAFKA_BOOTSTRAP_SERVERS: {{ $values.kafka.bootstrapServers | quote }}
HEADRACE_LOG_LEVEL: {{ $component.logging.level }}
HEADRACE_LOG_FORMAT: {{ $component.logging.format }}
HEADRACE_MANAGEMENT_HOST: 0.0.0.0
HEADRACE_MANAGEMENT_PORT: {{ $component.management | quote }}
{{- if $values.metrics.knativeNames }}
HEADRACE_MANAGEMENT_KNATIVE_METRICS: "true"
{{- end }}
{{- if $values.nats.servers }}
HEADRACE_NATS_SERVERS: {{ $values.nats.servers | quote }}
{{- end }}
{{- if $component.kafka.existingSecret }}
HEADRACE_KAFKA_SASL_USERNAME_FILE: /etc/headrace/kafka/user
HEADRACE_KAFKA_SASL_PASSWORD_FILE: /etc/headrace/kafka/password
{{- if $component.kafka.ca }}
HEADRACE_KAFKA_SSL_CA_FILE: /etc/headrace/kafka/ca.crt
{{- end }}
{{- if $component.kafka.clientCertificate }}
HEADRACE_KAFKA_SSL_CERTIFICATE_FILE: /etc/headrace/kafka/user.crt
HEADRACE_KAFKA_SSL_KEY_FILE: /etc/headrace/kafka/user.key
{{- end }}
{{- end }}
{{- if and (dig "endpoint" "" ($values.tracing | default dict)) (ne $component.name "controller") }}
OTEL_EXPORTER_OTLP_ENDPOINT: {{ $values.tracing.endpoint | quote }}
OTEL_TRACES_SAMPLER: parentbased_traceidratio
OTEL_TRACES_SAMPLER_ARG: {{ $values.tracing.ratio | quote }}
{{- with $values.tracing.resourceAttributes }}
{{- $pairs := list }}
{{- range $name, $value := . }}{{ $pairs = append $pairs (printf "%s=%s" $name $value) }}{{ end }}
OTEL_RESOURCE_ATTRIBUTES: {{ join "," $pairs | quote }}
{{- end }}
{{- end }}
{{- if eq $component.name "ingress" }}
HEADRACE_INGRESS_HOST: 0.0.0.0
HEADRACE_INGRESS_PORT: {{ $component.port | quote }}
HEADRACE_INGRESS_WORKERS: {{ $component.workers | quote }}
HEADRACE_INGRESS_SHUTDOWN_DELAY_SECONDS: {{ $component.shutdownDelaySeconds | quote }}
{{- if $component.certificate }}
HEADRACE_INGRESS_TLS_CERTIFICATE_FILE: /etc/headrace/certificate/tls.crt
HEADRACE_INGRESS_TLS_KEY_FILE: /etc/headrace/certificate/tls.key
{{- end }}
{{- else if eq $component.name "dispatcher" }}
HEADRACE_DISPATCHER_STATE_DIRECTORY: /var/lib/headrace
{{- include "headrace.egress" (list $values "HEADRACE_DISPATCHER") }}
{{- else if eq $component.name "in-memory" }}
HEADRACE_INGRESS_HOST: 0.0.0.0
HEADRACE_INGRESS_PORT: {{ $component.port | quote }}
HEADRACE_DISPATCHER_STATE_DIRECTORY: /var/lib/headrace
{{- include "headrace.egress" (list $values "HEADRACE_DISPATCHER") }}
{{- else if eq $component.name "sources" }}
HEADRACE_SOURCES_HOST: 0.0.0.0
HEADRACE_SOURCES_PORT: {{ $component.port | quote }}
HEADRACE_SOURCES_SHUTDOWN_DELAY_SECONDS: {{ $component.shutdownDelaySeconds | default 0 | quote }}
HEADRACE_SOURCES_PUBLIC_URL: {{ $component.publicUrl | default (include "headrace.serviceUrl" (list $root "sources")) | quote }}
{{- if $component.api }}
HEADRACE_SOURCES_KUBERNETES: "true"
{{- else }}
HEADRACE_SOURCES_KUBECONFIG: /etc/headrace/client/kubeconfig
{{- end }}
{{- include "headrace.egress" (list $values "HEADRACE_SOURCES") }}
{{- else }}
HEADRACE_CONTROLLER_INGRESS_URL: {{ include "headrace.ingressUrl" $root | quote }}
{{- if $values.inMemory.enabled }}
HEADRACE_CONTROLLER_IN_MEMORY_URL: {{ include "headrace.serviceUrl" (list $root "in-memory") | quote }}
{{- end }}
HEADRACE_CONTROLLER_CLUSTER_DOMAIN: {{ $values.clusterDomain | quote }}
{{- include "headrace.egress" (list $values "HEADRACE_DISPATCHER") }}
{{- if $component.api }}
HEADRACE_KUBERNETES_NAMESPACES: {{ join "," $values.namespaces | quote }}
HEADRACE_KUBERNETES_CHANNELS: {{ $component.channels | quote }}
HEADRACE_KUBERNETES_SOURCES: {{ $component.sources | quote }}
HEADRACE_KUBERNETES_LEGACY: {{ $values.crds.legacy | quote }}
HEADRACE_KUBERNETES_SYSTEM_NAMESPACE: {{ $root.Release.Namespace | quote }}
HEADRACE_KUBERNETES_LEASE: {{ include "headrace.fullname" $root }}-controller
{{- else }}
HEADRACE_CONTROLLER_HOST: 0.0.0.0
HEADRACE_CONTROLLER_PORT: {{ $component.port | quote }}
HEADRACE_CONTROLLER_SHUTDOWN_DELAY_SECONDS: {{ $component.shutdownDelaySeconds | default 0 | quote }}
HEADRACE_CONTROLLER_API_HOSTS: {{ include "headrace.apiHosts" $root | fromYamlArray | join "," | quote }}
HEADRACE_CONTROLLER_TLS_CERT_FILE: /etc/headrace/api/tls.crt
HEADRACE_CONTROLLER_TLS_KEY_FILE: /etc/headrace/api/tls.key
HEADRACE_CONTROLLER_KUBECONFIG_OUT: "-"
HEADRACE_API_TOKEN_FILE: /etc/headrace/api/token
{{- end }}
{{- end }}
{{- end }}

{{- define "headrace.egress" -}}
{{- $values := index . 0 }}{{ $prefix := index . 1 -}}
{{- with $values.egress.deny }}
{{ $prefix }}_EGRESS_DENY: {{ join "," . | quote }}
{{- end }}
{{- with $values.egress.allow }}
{{ $prefix }}_EGRESS_ALLOW: {{ join "," . | quote }}
{{- end }}
{{- end }}

{{- /* Names of the standalone API inside the cluster, as a YAML list. */}}
{{- define "headrace.apiHosts" -}}
{{- $name := printf "%s-controller" (include "headrace.fullname" .) -}}
- {{ $name }}
- {{ $name }}.{{ .Release.Namespace }}
- {{ $name }}.{{ .Release.Namespace }}.svc
- {{ $name }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end }}
