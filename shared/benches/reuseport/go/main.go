// The least that answers HTTP with Go's standard library, on a port that several processes share.
package main

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"syscall"
)

// The package syscall has no name for it.
const soReusePort = 15

func main() {
	share := func(_, _ string, socket syscall.RawConn) error {
		var refused error
		err := socket.Control(func(fd uintptr) {
			refused = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, soReusePort, 1)
		})
		if err != nil {
			return err
		}
		return refused
	}
	config := net.ListenConfig{Control: share}
	listener, err := config.Listen(context.Background(), "tcp4", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.Serve(listener, http.HandlerFunc(func(answer http.ResponseWriter, _ *http.Request) {
		answer.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(answer, "Hello from Go\n")
	})))
}
