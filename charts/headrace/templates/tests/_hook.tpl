{{- /* Annotations of an object that exists during `helm test` only; the argument is its weight. */}}
{{- define "headrace.testHook" -}}
helm.sh/hook: test
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}
