// Command agent is Turnstile: a safe >> for a fleet. Run `agent help`.
package main

import (
	"context"
	"os"
)

func main() {
	ctx, stop := untilTold(context.Background())
	code := execute(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
