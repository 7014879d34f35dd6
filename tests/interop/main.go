// Command interop checks Writ's log with the verifiers of others, and makes logs with their writers for Writ's
// verifier to check. Nothing here shares code with Writ; what it knows of Writ's own formats is what schema/ says.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"time"
)

// limit is how long any command may take: a check that hangs has failed.
const limit = time.Minute

var commands = map[string]func(context.Context, []string) (any, error){
	"check-sumdb":   checkSumdb,
	"check-tessera": checkTessera,
	"check-proof":   checkProof,
	"check-bundle":  checkBundle,
	"make-sumdb":    makeSumdb,
	"make-tessera":  makeTessera,
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	found, err := commands[os.Args[1]](ctx, os.Args[2:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
