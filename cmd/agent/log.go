package main

import (
	"io"
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"

	"github.com/turnstile-fleet/turnstile/internal/config"
)

// newLog writes to w: readable text on a terminal, JSON otherwise.
func newLog(c config.Log, w io.Writer) *zap.Logger {
	log, _ := newLeveledLog(c, w)
	return log
}

// newLeveledLog is newLog with a level that can be changed.
func newLeveledLog(c config.Log, w io.Writer) (*zap.Logger, zap.AtomicLevel) {
	level, err := zap.ParseAtomicLevel(c.Level)
	if err != nil {
		panic(err) // config lets only levels through
	}
	text := c.Format == "text" || c.Format == "auto" && isTerminal(w)
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	enc.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(enc)
	if text {
		enc.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		enc.EncodeLevel = zapcore.CapitalLevelEncoder
		if isTerminal(w) {
			enc.EncodeLevel = zapcore.CapitalColorLevelEncoder
		}
		enc.ConsoleSeparator = "  "
		encoder = zapcore.NewConsoleEncoder(enc)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), level)), level
}

// terminalWidth is how many columns w has, 80 when that is not known.
func terminalWidth(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 {
			return int(size.Col)
		}
	}
	return 80
}

// clipped is a line, cut so that it has at most so many characters.
func clipped(line string, width int) string {
	if runes := []rune(line); len(runes) > width {
		return string(runes[:max(width-1, 0)]) + "…"
	}
	return line
}

// isTerminal tells whether people look at w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
