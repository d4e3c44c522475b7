package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
)

func main() {
	for path, name := range map[string]string{
		"/healthz": "health", "/v1/agents": "agents", "/v1/agents/": "agents", "/v1/chat:complete": "chat",
		"/users/@me": "me", "/admin": "admin", "/admin/": "admin", "/": "other",
	} {
		name := name
		http.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Handler", name)
			fmt.Fprint(w, name)
		})
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("listening on " + listener.Addr().String())
	fmt.Fprintln(os.Stderr, http.Serve(listener, nil))
}
