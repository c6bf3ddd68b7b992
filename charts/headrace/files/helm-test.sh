# Sends an event to a Broker of its own and waits until it is delivered to this pod. A pod has this text as an argument, where Kubernetes
# replaces two dollar signs by one.
set -eu
id="helm-test-$(date +%s%N)"
case $POD_IP in
  *:*) bind=:: host="[$POD_IP]" ;;
  *) bind=0.0.0.0 host=$POD_IP ;;
esac

if [ -s "$INGRESS_CA" ]; then
  export SSL_CERT_FILE="$INGRESS_CA"
elif [ -n "$INGRESS_CA" ]; then
  echo "the Secret with the certificate of the ingress has no ca.crt; only the authorities of the image are trusted"
fi

headrace viewer --host "$bind" --port "$VIEWER_PORT" >"$WORK/received" 2>&1 &
viewer=$!
finish() {
  headrace delete trigger "$NAME" --namespace "$NAMESPACE" --ignore-not-found || true
  headrace delete broker "$NAME" --namespace "$NAMESPACE" --ignore-not-found || true
  kill "$viewer"
}
trap finish EXIT

headrace apply -f - --namespace "$NAMESPACE" --wait --timeout "$TIMEOUT_SECONDS" <<END
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: "$NAME"}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: "$NAME"}
spec:
  broker: "$NAME"
  subscriber: {uri: "http://$host:$VIEWER_PORT/"}
END

headrace send "$NAMESPACE/$NAME" --id "$id" --type dev.headrace.helm-test

waited=0
until grep -q "$id" "$WORK/received"; do
  if [ "$waited" -ge "$TIMEOUT_SECONDS" ]; then
    echo "the event $id was accepted, and not delivered within $TIMEOUT_SECONDS s" >&2
    exit 1
  fi
  sleep 1
  waited=$((waited + 1))
done
echo "the event $id was delivered"
