{{- /* What the schema cannot check; each message names the value, and an example. */}}
{{- define "headrace.validate" -}}
{{- $values := .Values -}}
{{- if not $values.kafka.bootstrapServers }}
{{- fail "kafka.bootstrapServers is required: host:port of one or more brokers, for example --set kafka.bootstrapServers=kafka.kafka.svc:9092" }}
{{- end }}
{{- if eq $values.mode "standalone" }}
{{- if gt (int $values.controller.replicas) 1 }}
{{- fail "controller.replicas must be 1 at most with mode=standalone: a standby refuses writes to the API, for example --set controller.replicas=1" }}
{{- end }}
{{- if $values.namespaces }}
{{- fail "namespaces has no effect with mode=standalone, where the controller's API has namespaces of its own; leave it empty, or set mode=cluster" }}
{{- end }}
{{- end }}
{{- if and $values.tests.namespace $values.namespaces (not (has $values.tests.namespace $values.namespaces)) }}
{{- fail (printf "tests.namespace must be one of the namespaces that are served, for example --set tests.namespace=%s" (first $values.namespaces)) }}
{{- end }}
{{- if and $values.dispatcher.keda.enabled (not $values.dispatcher.keda.prometheusUrl) }}
{{- fail "dispatcher.keda.prometheusUrl is required with dispatcher.keda.enabled, for example --set dispatcher.keda.prometheusUrl=http://prometheus-operated.monitoring.svc:9090" }}
{{- end }}
{{- if gt (int $values.dispatcher.keda.minReplicas) (int $values.dispatcher.keda.maxReplicas) }}
{{- fail "dispatcher.keda.minReplicas must not be greater than dispatcher.keda.maxReplicas, for example --set dispatcher.keda.maxReplicas=10" }}
{{- end }}
{{- if gt (int $values.ingress.autoscaling.minReplicas) (int $values.ingress.autoscaling.maxReplicas) }}
{{- fail "ingress.autoscaling.minReplicas must not be greater than ingress.autoscaling.maxReplicas, for example --set ingress.autoscaling.maxReplicas=10" }}
{{- end }}
{{- if and (include "headrace.ingressCertificate" .) (hasPrefix "http://" $values.ingress.url) }}
{{- fail "ingress.url must begin with https:// with ingress.tls.existingSecret, for example --set ingress.url=https://events.example.com" }}
{{- end }}
{{- if and $values.expose.httpRoute.enabled (not $values.expose.httpRoute.parentRefs) }}
{{- fail "expose.httpRoute.parentRefs is required with expose.httpRoute.enabled, for example --set 'expose.httpRoute.parentRefs[0].name=public'" }}
{{- end }}
{{- if and $values.expose.ingress.enabled (not $values.expose.ingress.hosts) }}
{{- fail "expose.ingress.hosts is required with expose.ingress.enabled, for example --set 'expose.ingress.hosts={events.example.com}'" }}
{{- end }}
{{- if and $values.metrics.podMonitor.enabled $values.metrics.serviceMonitor.enabled }}
{{- fail "metrics.podMonitor.enabled and metrics.serviceMonitor.enabled would scrape each pod twice; set one of them, for example --set metrics.serviceMonitor.enabled=false" }}
{{- end }}
{{- end }}
