{{- /* A Role, or without a namespace a ClusterRole, and its binding: (root, namespace, component, suffix of the name, rules). */}}
{{- define "headrace.role" -}}
{{- $root := index . 0 }}{{ $namespace := index . 1 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ empty $namespace | ternary "ClusterRole" "Role" }}
metadata:
  {{- include "headrace.clusterMetadata" (list $root (index . 2) (index . 3)) | nindent 2 }}
  {{- with $namespace }}
  namespace: {{ . }}
  {{- end }}
rules:
  {{- index . 4 | nindent 2 }}
{{- include "headrace.binding" (list $root $namespace (index . 2) (index . 3)) }}
{{- end }}

{{- /* Binds a role to the ServiceAccount of a component: (root, namespace, component, suffix of the role's name). */}}
{{- define "headrace.binding" -}}
{{- $root := index . 0 }}{{ $namespace := index . 1 }}{{ $scope := empty $namespace | ternary "Cluster" "" }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $scope }}RoleBinding
metadata:
  {{- include "headrace.clusterMetadata" (list $root (index . 2) (index . 3)) | nindent 2 }}
  {{- with $namespace }}
  namespace: {{ . }}
  {{- end }}
subjects:
  - kind: ServiceAccount
    name: {{ include "headrace.fullname" $root }}-{{ index . 2 }}
    namespace: {{ $root.Release.Namespace }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $scope }}Role
  name: {{ include "headrace.fullname" $root }}-{{ index . 3 }}
{{- end }}
