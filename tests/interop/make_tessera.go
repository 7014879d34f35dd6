package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
	"k8s.io/klog/v2"
)

// makeTessera writes a log with Tessera's POSIX driver in several batches, so that partial tiles of earlier sizes stay
// behind, as they do in a log that runs.
func makeTessera(ctx context.Context, args []string) (any, error) {
	klog.SetOutput(io.Discard)
	klog.LogToStderr(false)
	flags := flag.NewFlagSet("make-tessera", flag.ContinueOnError)
	dir := flags.String("dir", "", "the directory, which must not exist")
	size := flags.Int64("size", 0, "entries")
	batches := flags.Int64("batches", 3, "batches that they come in, each with a checkpoint")
	origin := flags.String("origin", "tessera.example/log", "the log's origin and key name")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	secret, public, err := note.GenerateKey(rand.Reader, *origin)
	if err != nil {
		return nil, err
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		return nil, err
	}
	verifier, err := note.NewVerifier(public)
	if err != nil {
		return nil, err
	}
	driver, err := posix.New(ctx, posix.Config{Path: *dir})
	if err != nil {
		return nil, err
	}
	options := tessera.NewAppendOptions().
		WithCheckpointSigner(signer).
		WithCheckpointInterval(100*time.Millisecond).
		WithBatching(uint(max(1, *size / *batches)), 50*time.Millisecond)
	appender, shutdown, reader, err := tessera.NewAppender(ctx, driver, options)
	if err != nil {
		return nil, err
	}
	await := tessera.NewPublicationAwaiter(ctx, reader.ReadCheckpoint, 20*time.Millisecond)
	for first := int64(0); first < *size; {
		until := min(*size, first+max(1, (*size+*batches-1) / *batches))
		var last tessera.IndexFuture
		for ; first < until; first++ {
			last = appender.Add(ctx, tessera.NewEntry(append([]byte(fmt.Sprintf("entry %d ", first)), entryOf(first)...)))
		}
		if _, _, err := await.Await(ctx, last); err != nil {
			return nil, err
		}
	}
	if err := shutdown(ctx); err != nil {
		return nil, err
	}
	if err := writeFile(filepath.Join(*dir, "log.vkey"), []byte(public+"\n")); err != nil {
		return nil, err
	}
	checkpoint, _, _, err := client.FetchCheckpoint(ctx, reader.ReadCheckpoint, verifier, *origin)
	if err != nil {
		return nil, err
	}
	return madeReport{int64(checkpoint.Size), base64.StdEncoding.EncodeToString(checkpoint.Hash)}, nil
}
