package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/api"
	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/booking"
	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/locks"
)

// lastWords is how long requests that are under way have when the instance is told to stop.
const lastWords = 3 * time.Second

func serveCommand() *cobra.Command {
	var s settings
	var listen string
	var check bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve HTTP: one instance of any number",
		Long: `Serve HTTP: one instance of any number, all on one database and one lock service. Run
"tickets init" first, with the same LOCK_TYPE and DATABASE_URL.

It goes on until Ctrl-C or SIGTERM; what is under way is answered within 3 seconds. It logs one
JSON object a line to stderr, and says there why it cannot sell.`,
		Example: `  tickets serve
  tickets serve --listen :6006                       # one more, or when 6005 is taken
  LOCK_TYPE=ephemeral_node ZOOKEEPER_SERVERS=zk1:2181,zk2:2181 tickets serve`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cmp.Or(s.check(), s.checkServices()); err != nil {
				return err
			}
			if _, _, err := net.SplitHostPort(listen); err != nil {
				return wrong("listen", listen, "use :6005 or host:6005")
			}
			if check {
				return s.tryOpen(cmd.OutOrStdout())
			}
			return serve(cmd.Context(), s, listen)
		},
	}
	host, _ := os.Hostname() // it is for people: an empty one will do
	flags := cmd.Flags()
	flags.StringVar(&listen, "listen", ":6005", "address to serve at, as :6005 or host:6005")
	flags.StringVar(&s.Instance, "instance", host, "name of this instance, in logs and in ZooKeeper")
	flags.DurationVar(&s.ReserveFor, "reserve-for", 2*time.Minute, "how long a reservation holds")
	inEnvironment(flags, "listen", "instance", "reserve-for")
	flags.BoolVar(&check, "check", false, "check the settings and connect to nothing")
	s.lockType(flags)
	s.database(flags)
	s.services(flags)
	return cmd
}

// tryOpen checks the addresses, and connects to nothing.
func (s *settings) tryOpen(out io.Writer) error {
	db, err := s.openStore()
	if err != nil {
		return err
	}
	defer db.Close()
	if s.LockType == locks.Redis && s.Redis != "" { // `init` has none
		l, err := s.openLocks(zap.NewNop())
		if err != nil {
			return err
		}
		l.Close()
	}
	fmt.Fprintln(out, "the settings are fine")
	return nil
}

func serve(ctx context.Context, s settings, listen string) error {
	log, err := zap.NewProduction()
	if err != nil {
		return err
	}
	log = log.With(zap.String("instance", s.Instance))
	db, err := s.openStore()
	if err != nil {
		return err
	}
	defer db.Close()
	held, err := s.openLocks(log)
	if err != nil {
		return err
	}
	defer held.Close()
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		next := "--listen (LISTEN) chooses another address"
		if errors.Is(err, syscall.EADDRINUSE) {
			next = "is another instance there? --listen (LISTEN) chooses another port, for example :6006"
		}
		return fmt.Errorf("%w; %s", err, next)
	}
	service := &booking.Service{Locks: held, Store: db, LockType: s.LockType, Hold: s.ReserveFor, Log: log}
	handler := api.New(service, log)
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: zap.NewStdLog(log),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }() // ends with Shutdown or Close
	log.Info("serving", zap.Stringer("at", listener.Addr()), zap.String("lock_type", s.LockType), zap.Duration("reserve_for", s.ReserveFor))
	look(ctx, service, handler)
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		log.Warn("requests are cut off", zap.Error(err))
		server.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// look looks once whether the instance can sell, and logs that. A session with ZooKeeper takes a
// moment.
func look(ctx context.Context, service *booking.Service, server *api.Server) {
	_ = insist(ctx, 3*time.Second, func(error) {}, service.Ready) // Ready says what is wrong
	if ctx.Err() == nil {
		_ = server.Ready(ctx)
	}
}
