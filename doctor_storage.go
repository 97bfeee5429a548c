package shunt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/caddy-shunt/caddy-shunt/credential"
	"github.com/caddy-shunt/caddy-shunt/internal/doctor"
)

// clockTolerance is how far another instance's clock may be ahead.
const clockTolerance = 5 * time.Second

// fleeting are folders that are empty after a restart of the machine.
var fleeting = []string{"/tmp", "/var/tmp", "/dev/shm", "/run", "/var/run"}

// storages looks at where each pool keeps logins and state.
func (p *patient) storages(ctx context.Context) []doctor.Finding {
	var found []doctor.Finding
	seen := make(map[string]bool)
	for i := range p.accounts {
		c := &p.accounts[i]
		key := c.pool + "\x00" + string(c.place.StorageRaw)
		if seen[key] {
			continue
		}
		seen[key] = true
		for _, f := range p.storage(ctx, c) {
			if f.Where == "" {
				f.Where = "pool " + c.pool
			}
			found = append(found, f)
		}
	}
	return found
}

func (p *patient) storage(ctx context.Context, c *configured) []doctor.Finding {
	st, err := p.storageOfAccount(c)
	if errors.Is(err, errUnknownPlace) {
		return []doctor.Finding{{Level: doctor.Skipped, Found: err.Error()}}
	}
	if err == nil {
		_, _, err = credentialStorage(st, c.place.encrypt)
	}
	if err != nil {
		return []doctor.Finding{{Level: doctor.Problem, Found: err.Error(), Change: "Put storage or encrypt right, or run doctor with the environment of Caddy's service and as its user."}}
	}
	found := aheadOf(ctx, st, c.pool, time.Now())
	if files, ok := st.(*certmagic.FileStorage); ok {
		return append(found, folderFinding(files.Path))
	}
	if p.offline {
		return append(found, doctor.Finding{Level: doctor.Skipped, Found: "--offline: the storage was not asked"})
	}
	return append(found, reachFinding(ctx, st, c.pool))
}

// errUnknownPlace says that the running Caddy has its storage where only it knows.
var errUnknownPlace = errors.New("what runs does not tell where it has its default storage; it may be an older version")

// storageOfAccount opens the storage of an account's pool. Caddy's default one is
// where the running Caddy has it, whose environment may be another.
func (p *patient) storageOfAccount(c *configured) (credential.Storage, error) {
	switch {
	case p.admin == nil || c.place.StorageRaw != nil:
		return c.place.openPlain(p.caddy)
	case p.dataDir == "":
		return nil, errUnknownPlace
	}
	return &certmagic.FileStorage{Path: p.dataDir}, nil
}

// reachFinding asks a storage that is not of files, and writes nothing.
func reachFinding(ctx context.Context, st credential.Storage, pool string) doctor.Finding {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	begun := time.Now()
	_, err := st.Load(ctx, "shunt/"+pool+"/doctor")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return doctor.Finding{Level: doctor.Problem, Found: "the storage cannot be read: " + err.Error(), Change: "See that it runs and that its address is right."}
	}
	return doctor.Finding{Level: doctor.OK, Found: fmt.Sprintf("the storage answers in %v", time.Since(begun).Round(time.Millisecond/10))}
}

// folderFinding judges the folder of a storage of files.
func folderFinding(folder string) doctor.Finding {
	f := doctor.Finding{Where: folder}
	place := folder
	info, err := os.Stat(place)
	for errors.Is(err, fs.ErrNotExist) && filepath.Dir(place) != place {
		place = filepath.Dir(place)
		info, err = os.Stat(place)
	}
	const asCaddy = "As the user that runs Caddy, and with its HOME and XDG_DATA_HOME, run doctor again."
	switch {
	case !filepath.IsAbs(folder):
		f.Level, f.Found = doctor.Problem, "the storage lies where Caddy happens to be started, since HOME is not set"
		f.Change = "Set HOME or XDG_DATA_HOME for Caddy's service, or among the global options:\nstorage file_system /var/lib/caddy"
	case err != nil:
		f.Level, f.Found, f.Change = doctor.Skipped, "it cannot be looked at as this user: "+err.Error(), asCaddy
	case !info.IsDir():
		f.Level, f.Found, f.Change = doctor.Problem, place+" is not a folder", "Name a folder behind storage file_system."
	case !ownedByUs(info):
		f.Level, f.Found, f.Change = doctor.Skipped, "it belongs to another user, so it was not tried whether it can be written", asCaddy
	case !writable(place):
		f.Level, f.Found, f.Change = doctor.Problem, "it cannot be written: refreshed logins and the pool's state are lost", "chmod u+rwx "+quoteAll([]string{place})+"\nand see that the file system is not full, or mounted read-only."
	case isFleeting(folder):
		f.Level, f.Found = doctor.Warning, "it is lost when the machine starts anew, with all logins"
		f.Change = "Among the global options:\nstorage file_system /var/lib/caddy"
	case inContainer(folder):
		f.Level, f.Found = doctor.Warning, "it is in the container's own layer, and lost with the container, with all logins"
		f.Change = "Give the container a volume there, such as docker run -v caddy_data:" + folder
	default:
		f.Level, f.Found = doctor.OK, "it can be written"
	}
	return f
}

// writable tries it with a file that is taken away at once.
func writable(folder string) bool {
	f, err := os.CreateTemp(folder, ".shunt-doctor-*")
	if err != nil {
		return false
	}
	_, wrote := f.WriteString("x")
	closed := f.Close()
	return os.Remove(f.Name()) == nil && wrote == nil && closed == nil
}

func isFleeting(folder string) bool {
	return slices.ContainsFunc(fleeting, func(at string) bool { return folder == at || strings.HasPrefix(folder, at+"/") })
}

// inContainer reports whether this is a container and the folder is on no mount of
// its own.
func inContainer(folder string) bool {
	if _, err := os.Stat("/.dockerenv"); err != nil {
		if _, err := os.Stat("/run/.containerenv"); err != nil {
			return false
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	return err == nil && !onMount(string(mounts), folder)
}

// onMount reports whether the folder lies on a mount below the root. The fifth field
// of a line of mountinfo is the mount point (proc(5)).
func onMount(mountinfo, folder string) bool {
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 5 || fields[4] == "/" {
			continue
		}
		if at := fields[4]; folder == at || strings.HasPrefix(folder, at+"/") {
			return true
		}
	}
	return false
}

// aheadOf finds instances that share the pool and whose clock is ahead: what they
// wrote is of a time that has not come.
func aheadOf(ctx context.Context, st credential.Storage, pool string, now time.Time) (found []doctor.Finding) {
	lists, ok := st.(certmagic.Storage)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	names, err := listInstances(ctx, lists, "shunt/"+pool+"/facts")
	if err != nil {
		return nil // the storage itself is looked at next
	}
	for _, name := range names {
		data, err := st.Load(ctx, "shunt/"+pool+"/facts/"+name+".json")
		if err != nil {
			continue
		}
		rec, err := parseFacts(data)
		if err != nil {
			continue
		}
		if ahead := rec.Written.Sub(now); ahead > clockTolerance {
			found = append(found, doctor.Finding{
				Level: doctor.Warning, Where: "pool " + pool + ", instance " + name,
				Found:  fmt.Sprintf("its clock is at least %v ahead of this machine's; what instances tell each other goes by the clock", ahead.Round(time.Second)),
				Change: "On both machines:\ntimedatectl set-ntp true",
			})
		}
	}
	return found
}
