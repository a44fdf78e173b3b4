#!/usr/bin/env bash
# kubelet without an API server, on Debian's containerd: a static pod. Run by run.sh.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
install_plugins
cp "$here/../../conf-examples/kubernetes.conflist" /etc/cni/net.d/10-kubernetes.conflist

containerd_config 1 >/run/containerd.toml
mkdir -p /run/manifests
cat >/run/kubelet.yaml <<'CONF'
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
imageServiceEndpoint: unix:///run/containerd/containerd.sock
staticPodPath: /run/manifests
cgroupDriver: cgroupfs
failSwapOn: false
protectKernelDefaults: true
makeIPTablesUtilChains: false
localStorageCapacityIsolation: false
enforceNodeAllocatable: []
oomScoreAdj: 0
evictionHard: {}
address: 127.0.0.1
readOnlyPort: 10255
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
fileCheckFrequency: 1s
syncFrequency: 1s
featureGates: {KubeletInUserNamespace: true}
CONF
# kubelet insists on these, which are the whole machine's: it is shown files.
n=0
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    n=$((n + 1))
    echo "${setting#*=}" >"/run/sysctl$n"
    mount --bind "/run/sysctl$n" "/proc/sys/${setting%=*}"
done

step "$("$CLIENTS/kubelet-$KUBELET_VERSION" --version)"
containerd -c /run/containerd.toml >/run/containerd.log 2>&1 &
containerd=$!
wants Server ctr version
need ctr -n k8s.io images import "$CLIENTS/busybox.tar"
"$CLIENTS/kubelet-$KUBELET_VERSION" --config /run/kubelet.yaml --hostname-override bottle >/run/kubelet.log 2>&1 &
kubelet=$!

# pod NAME PORT: a manifest of a server that answers with the name.
pod() {
    cat >"/run/manifests/$1.yaml" <<CONF
apiVersion: v1
kind: Pod
metadata:
  name: $1
  namespace: default
  annotations: {kubernetes.io/ingress-bandwidth: 100M, kubernetes.io/egress-bandwidth: 50M}
spec:
  terminationGracePeriodSeconds: 1
  dnsPolicy: Default
  containers:
    - name: server
      image: localhost/busybox:1
      imagePullPolicy: Never
      command: [sh, -c, "echo $1 > /tmp/index.html; httpd -f -p 80 -h /tmp"]
      ports: [{containerPort: 80, hostPort: $2}]
CONF
}

step "static pods with host ports and limits"
pod web 18080
pod second 18081
wants web fetch http://127.0.0.1:18080/
wants second fetch http://127.0.0.1:18081/
wants 'rate 100Mbit' tc qdisc show
wants 'rate 50Mbit' tc qdisc show

step "kubelet restarts"
kill -9 "$kubelet"
wait "$kubelet" 2>/dev/null || true
wants web fetch http://127.0.0.1:18080/
"$CLIENTS/kubelet-$KUBELET_VERSION" --config /run/kubelet.yaml --hostname-override bottle >>/run/kubelet.log 2>&1 &
kubelet=$!

step "a pod goes"
rm /run/manifests/second.yaml
wants '^gone$' sh -c 'curl -s -m 1 http://127.0.0.1:18081/ || echo gone'
wants web fetch http://127.0.0.1:18080/

step "all goes"
rm /run/manifests/web.yaml
wants '^$' traces
kill "$kubelet" "$containerd"
wait "$kubelet" "$containerd" 2>/dev/null || true
finish
