//go:build tools

// Package tools names the commands that scripts/kubernetes.sh builds for the node. An older minor version than the control
// plane's, as is usual in an upgrade: the last that runs on containerd 1.6, which Debian 12 has.
package tools

import (
	_ "k8s.io/kubernetes/cmd/kube-proxy"
	_ "k8s.io/kubernetes/cmd/kubelet"
)
