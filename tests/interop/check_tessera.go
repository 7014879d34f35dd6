package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"k8s.io/klog/v2"
)

// tesseraReport says what was checked.
type tesseraReport struct {
	Size    uint64 `json:"size"`
	OldSize uint64 `json:"oldSize"`
}

// checkTessera checks a log with Tessera's tlog-tiles client: fsck derives every tile and the root from the entries anew,
// and the client's own tracker follows the log from an older checkpoint.
func checkTessera(ctx context.Context, args []string) (any, error) {
	klog.SetOutput(io.Discard)
	klog.LogToStderr(false)
	flags := newLogFlags("check-tessera")
	from, key, err := flags.open(args)
	if err != nil {
		return nil, err
	}
	log, err := from.tessera()
	if err != nil {
		return nil, err
	}
	if err := inTime(ctx, fsck.New(key.Name(), key, log, leafHashes, fsck.Opts{N: 2}).Check); err != nil {
		return nil, fmt.Errorf("fsck: %w", firstLine(err))
	}
	checkpoint, _, _, err := client.FetchCheckpoint(ctx, log.ReadCheckpoint, key, key.Name())
	if err != nil {
		return nil, err
	}
	report := tesseraReport{Size: checkpoint.Size}
	if *flags.old == "" {
		return report, nil
	}
	old, err := os.ReadFile(*flags.old)
	if err != nil {
		return nil, err
	}
	consensus := client.UnilateralConsensus(log.ReadCheckpoint)
	tracker, err := client.NewLogStateTracker(ctx, log.ReadTile, old, key, key.Name(), consensus)
	if err != nil {
		return nil, fmt.Errorf("the older checkpoint: %w", err)
	}
	report.OldSize = tracker.Latest().Size
	if _, _, _, err := tracker.Update(ctx); err != nil {
		return nil, fmt.Errorf("consistency with size %d: %w", report.OldSize, err)
	}
	if latest := tracker.Latest().Size; latest != report.Size {
		// The tracker keeps what it knows when the log has become smaller.
		return nil, fmt.Errorf("the log shrank from %d to %d entries", latest, report.Size)
	}
	return report, nil
}

func (s source) tessera() (fsck.Fetcher, error) {
	if !s.isHTTP() {
		return client.FileFetcher{Root: s.root}, nil
	}
	root, err := url.Parse(s.root)
	if err != nil {
		return nil, err
	}
	fetcher, err := client.NewHTTPFetcher(root, nil)
	if err != nil {
		return nil, err
	}
	if s.bearer != "" {
		fetcher.SetAuthorizationHeader("Bearer " + s.bearer)
	}
	return fetcher, nil
}

// inTime runs a check that might wait for ever for a tile that it has given up.
func inTime(ctx context.Context, check func(context.Context) error) error {
	done := make(chan error, 1)
	go func() { done <- check(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func leafHashes(bundle []byte) ([][]byte, error) {
	var entries api.EntryBundle
	if err := entries.UnmarshalText(bundle); err != nil {
		return nil, err
	}
	hashes := make([][]byte, len(entries.Entries))
	for i, entry := range entries.Entries {
		hashes[i] = rfc6962.DefaultHasher.HashLeaf(entry)
	}
	return hashes, nil
}

// firstLine cuts a message that goes on to print whole tiles.
func firstLine(err error) error {
	line, _, cut := strings.Cut(err.Error(), "\n")
	if !cut {
		return err
	}
	return errors.New(strings.TrimSuffix(strings.TrimSpace(line), "log has:") + "differs from what the entries give")
}
