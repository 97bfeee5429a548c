package shunt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddy-shunt/caddy-shunt/internal/terminal"
)

const (
	// shortestWatch keeps a typing error from keeping Caddy busy.
	shortestWatch = 200 * time.Millisecond
	// watchTimeout bounds one question of a watch.
	watchTimeout = 10 * time.Second
	// fewestRequests are shown even if one has to scroll.
	fewestRequests = 8
)

// watchStatus is status --watch.
func watchStatus(ctx context.Context, flags caddycmd.Flags, colour string) error {
	interval := flags.Duration("interval")
	out := terminal.OutputOf(os.Stdout, colour, os.Getenv)
	switch {
	case interval < shortestWatch:
		return fmt.Errorf("--interval: %v is too short; expected %v or more", interval, shortestWatch)
	case !terminal.Is(os.Stdout) || !terminal.Is(os.Stdin):
		return errors.New("--watch draws on a terminal and reads its keys, and standard input and output are not both one; without --watch the status goes anywhere")
	case os.Getenv("TERM") == "dumb":
		return errors.New("--watch draws on the whole screen, which this terminal says it cannot (TERM=dumb)")
	}
	s, err := findRunning(ctx, flags)
	if err != nil {
		return err
	}
	pools, _, err := s.status(ctx)
	if err != nil {
		return err
	}
	// From before the screen is taken: a signal in between would leave it so.
	leave := make(chan os.Signal, 1)
	signal.Notify(leave, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(leave)
	screen, err := terminal.OpenScreen(os.Stdin, os.Stdout, out.Look)
	if err != nil {
		return err
	}
	defer screen.Close()
	w := &watch{site: s, screen: screen, look: out.Look, interval: interval, answers: make(chan watchAnswer, 1)}
	w.take(watchAnswer{pools: pools, at: time.Now()})
	return w.run(ctx, leave)
}

// watch is the view on the whole screen. Its fields belong to run.
type watch struct {
	site     *site
	screen   *terminal.Screen
	look     terminal.Look
	interval time.Duration

	answers chan watchAnswer
	asking  bool

	watched
}

// watched is what a watch knows.
type watched struct {
	pools []*statusView
	// at is when the pools were as they are shown.
	at time.Time
	// trouble is why nothing newer is known, since then; nil if all is well.
	trouble error
	since   time.Time
	// top is the first line that is shown.
	top int
}

type watchAnswer struct {
	pools []*statusView
	err   error
	at    time.Time
	// crash is a panic, to be told where the screen is given back.
	crash any
}

// run shows until it is told to leave.
func (w *watch) run(ctx context.Context, leave <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ask := time.NewTicker(w.interval)
	defer ask.Stop()
	// Times to come are counted down also when nobody is asked.
	clock := time.NewTicker(time.Second)
	defer clock.Stop()
	for {
		if err := w.draw(time.Now()); err != nil {
			return err
		}
		select {
		case <-leave:
			return nil
		case key := <-w.screen.Keys():
			if key == terminal.KeyQuit {
				return nil
			}
			w.press(key)
		case <-w.screen.Resized():
			w.screen.Forget()
		case <-clock.C:
		case <-ask.C:
			if !w.asking {
				w.asking = true
				go w.ask(ctx)
			}
		case a := <-w.answers:
			w.asking = false
			w.take(a)
		}
	}
}

// ask asks once. A panic here would end the process with the screen as it is.
func (w *watch) ask(ctx context.Context) {
	a := watchAnswer{}
	defer func() {
		if p := recover(); p != nil {
			a.crash = fmt.Sprintf("%v\n%s", p, debug.Stack())
		}
		a.at = time.Now()
		w.answers <- a
	}()
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	a.pools, _, a.err = w.site.status(ctx)
}

// take takes over what was told.
func (w *watched) take(a watchAnswer) {
	switch {
	case a.crash != nil:
		panic(a.crash)
	case a.err == nil:
		w.pools, w.at, w.trouble = a.pools, a.at, nil
	case w.trouble == nil:
		w.trouble, w.since = a.err, a.at
	default:
		w.trouble = a.err
	}
}

func (w *watch) press(key terminal.Key) {
	_, height := w.screen.Size()
	page := max(1, height-4)
	switch key {
	case terminal.KeyUp:
		w.top--
	case terminal.KeyDown:
		w.top++
	case terminal.KeyPageUp:
		w.top -= page
	case terminal.KeyPageDown:
		w.top += page
	case terminal.KeyTop:
		w.top = 0
	case terminal.KeyBottom:
		w.top = 1 << 20
	case terminal.KeyRedraw:
		w.screen.Forget()
	}
}

func (w *watch) draw(now time.Time) error {
	width, height := w.screen.Size()
	d := drawing{look: w.look, cells: width, now: now}
	return w.screen.Draw(w.frame(d, height, w.site.admin.String()))
}

// frame is what the screen shows. It moves top to where there is something.
func (w *watched) frame(d drawing, height int, address string) []terminal.Line {
	head := w.head(d, address)
	room := max(1, height-len(head)-1)
	body := w.body(d, room)
	w.top = max(0, min(w.top, len(body)-room))
	last := min(len(body), w.top+room)
	lines := append(head, body[w.top:last]...)
	for len(lines) < height-1 {
		lines = append(lines, terminal.Line{})
	}
	foot := "q quits"
	if len(body) > room {
		foot = fmt.Sprintf("lines %d to %d of %d, arrows and PgUp/PgDn scroll, q quits", w.top+1, last, len(body))
	}
	return append(lines, terminal.Marked(foot, terminal.Faint).Cut(d.cells))
}

// head says whose figures these are, of when, and what is the matter if they are old.
func (w *watched) head(d drawing, address string) []terminal.Line {
	title := terminal.Marked("caddy shunt", terminal.Strong).Add(" at "+address, terminal.Plain)
	clock := terminal.Marked(d.now.Format(time.TimeOnly), terminal.Faint)
	lines := []terminal.Line{title.PadTo(max(0, d.cells-clock.Width())).Join(clock)}
	if w.trouble != nil {
		words := fmt.Sprintf("No answer since %s (%s): %v. The figures are of %s; it is asked again.", w.since.In(d.now.Location()).Format(time.TimeOnly),
			terminal.Span(d.now.Sub(w.since)), w.troubleWords(address), w.at.In(d.now.Location()).Format(time.TimeOnly))
		lines = append(lines, terminal.Wrap(words, terminal.Bad, d.cells, 2)...)
	}
	return append(lines, terminal.Line{})
}

func (w *watched) troubleWords(address string) string {
	if errors.Is(w.trouble, errNotRunning) {
		return fmt.Sprintf("no Caddy runs at %s", address)
	}
	return w.trouble.Error()
}

// body is all that there is to see. The last requests take the room that is left.
func (w *watched) body(d drawing, room int) (lines []terminal.Line) {
	var parts [][2][]terminal.Line // before and behind a pool's requests
	used := 0
	for i, s := range w.pools {
		before, behind := d.pool(s), d.people(s.People)
		if i > 0 {
			before = append([]terminal.Line{{}}, before...)
		}
		parts = append(parts, [2][]terminal.Line{before, behind})
		used += len(before) + len(behind)
	}
	rows := fewestRequests
	if n := len(parts); n > 0 {
		const titles = 2 // an empty line and the names of the columns
		rows = max(rows, (room-used)/n-titles)
	}
	for i, part := range parts {
		lines = append(lines, part[0]...)
		if requests := d.requests(w.pools[i].Recent, rows); len(requests) > 0 {
			lines = append(append(lines, terminal.Line{}), requests...)
		}
		lines = append(lines, part[1]...)
	}
	return lines
}
