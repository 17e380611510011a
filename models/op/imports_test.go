package op_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "likeness/"

// rule says which of our packages those of a pattern may import, and why no others. Patterns are paths below the module; "a/..." is a
// and all below it.
type rule struct {
	packages string
	may      string
	why      string
}

// rules are tried in order; the first that names a package holds.
var rules = []rule{
	{"models/op", "", "the language models are written in knows no model and no Builder"},
	{"models/op/optest", "models/op models/backend/ref models/backend/trace models/safetensors", "the suite compares any Builder with the reference, so it knows no other"},
	{"models/nn", "models/op", "layers are written over op alone: a Builder that they knew would be the only one they run on"},
	{"models/clip models/unet models/vae", "models/op models/nn models/config", "an architecture is built by every Builder, so it imports none"},
	{"models/ipadapter", "models/op models/nn models/clip", "an architecture is built by every Builder, so it imports none"},
	{"models/backend/trace models/backend/ref models/backend/torch", "models/op", "a Builder knows the primitives, never a model"},
	{"models/backend/onnx", "models/op models/safetensors", "graphs point into weight files and need no native library"},
	{"models/backend/ort", "models/op models/backend/onnx", "it runs graphs and knows no model"},
	{"models/config models/memory models/rng models/scheduler models/safetensors models/tokenizer models/pixels", "", "these are leaves that anything may use"},
	{"models/checkpoint", "models/safetensors models/config", "a checkpoint is checked against a list of names, whoever made it"},
	{"models/pipeline", "models/checkpoint models/clip models/config models/op models/pixels models/rng models/safetensors models/scheduler models/tokenizer models/unet models/vae",
		"it runs networks through its Runner and takes concepts as plain slices: no Builder, no Concept"},
	{"models/demo", "", "the pack is data"},
	{"encoder/concept", "models/safetensors", "a Concept is plain data that stores and tuning read without a model"},
	{"encoder/exchange", "encoder/concept models/checkpoint models/op models/safetensors models/tokenizer",
		"files are read against the shapes of a base's weights, without a network"},
	{"encoder/imageprompt", "encoder encoder/concept models/checkpoint models/clip models/ipadapter models/op models/pipeline models/pixels",
		"it runs its network through pipeline's Runner: no Builder, and nothing of server"},
	{"encoder/encodertest", "encoder models/backend/trace models/checkpoint models/op models/safetensors models/unet",
		"tests write folders with it: it runs nothing, so it needs no Builder that runs"},
	{"encoder", "encoder/concept encoder/exchange models/checkpoint models/clip models/config models/nn models/op models/pipeline models/pixels models/safetensors",
		"it runs its network through its Runner: no Builder, and nothing of training or server"},
	{"training/protocol", "", "server and worker both speak it, so it knows neither"},
	{"training/...", "training/... encoder/... models/...", "training makes what server reads; the two meet in files and in training/protocol only"},
	{"server/config", "", "settings are read before anything is opened"},
	{"server/store/...", "server/store encoder/concept", "a store keeps concepts and knows nothing that makes or uses them"},
	{"server/jobs/...", "server/jobs/... server/store encoder/concept training/protocol", "jobs know of tuning what a worker's messages say, and no model"},
	{"server/api", "server/... encoder/... models/pipeline models/op models/safetensors training/protocol", "handlers are given what they use: only main.go knows Builders and stores"},
	{"server", "server/... encoder/... models/... training/protocol web", "it wires everything but training, which it starts as a process of its own"},
	{"web", "", "the page is static files"},
	{"scripts/...", "", "scripts call the binaries"},
}

// bans are packages that only some of ours may import.
var bans = []struct{ banned, only, why string }{
	{module + "models/backend/torch", "models/backend/torch training/...", "server must build and run without libtorch"},
	{"github.com/sugarme/gotch", "models/backend/torch", "libtorch belongs to one thread, which models/backend/torch owns"},
	{"github.com/yalue/onnxruntime_go", "models/backend/ort", "sessions and their lifetimes are models/backend/ort's"},
	{"github.com/redis/go-redis", "server/store/redis server/jobs", "everything else works without Redis"},
	{"go.etcd.io/bbolt", "server/store/bolt", "everything else works on any store"},
	{module + "server/store/bolt", "server server/store/bolt", "only main.go picks a store"},
	{module + "server/store/redis", "server server/store/redis", "only main.go picks a store"},
	{module + "web", "server web", "only main.go serves the page"},
}

// matches tells whether one of the patterns, between spaces, names pkg.
func matches(patterns, pkg string) bool {
	return slices.ContainsFunc(strings.Fields(patterns), func(p string) bool {
		tree, ok := strings.CutSuffix(p, "/...")
		return p == pkg || ok && (pkg == tree || strings.HasPrefix(pkg, tree+"/"))
	})
}

// imports are what the Go files of the repository import, whatever their build tags: file to import paths.
func imports(t *testing.T) map[string][]string {
	const root = "../.."
	found := map[string][]string{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		name := d.Name()
		switch {
		case err != nil:
			return err
		case d.IsDir() && file != root && (strings.HasPrefix(name, ".") || name == "testdata"):
			return fs.SkipDir
		case d.IsDir() || filepath.Ext(name) != ".go":
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		paths := []string{}
		for _, spec := range f.Imports {
			p, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			paths = append(paths, p)
		}
		found[filepath.ToSlash(rel)] = paths
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestImports holds the order of the packages.
func TestImports(t *testing.T) {
	files := imports(t)
	for file, paths := range files {
		pkg := path.Dir(file)
		if strings.HasSuffix(file, "_test.go") {
			checkTest(t, file, pkg, paths)
			continue
		}
		i := slices.IndexFunc(rules, func(r rule) bool { return matches(r.packages, pkg) })
		if i < 0 {
			t.Errorf("%s: no rule says what package %s may import: give it one", file, pkg)
			continue
		}
		for _, p := range paths {
			if own, ok := strings.CutPrefix(p, module); ok && !matches(rules[i].may, own) {
				t.Errorf("%s imports %s, which it may not: %s", file, own, rules[i].why)
			}
			checkBans(t, file, pkg, p)
		}
	}
	if _, ok := files["models/backend/torch/engine.go"]; !ok {
		t.Error("files behind build tags were not read")
	}
}

func checkBans(t *testing.T, file, pkg, imported string) {
	for _, b := range bans {
		if (imported == b.banned || strings.HasPrefix(imported, b.banned+"/")) && !matches(b.only, pkg) {
			t.Errorf("%s imports %s, which only %s may: %s", file, imported, b.only, b.why)
		}
	}
}

// checkTest holds tests to less: they may put together what they test, but models are tested without what stands on them.
func checkTest(t *testing.T, file, pkg string, paths []string) {
	for _, p := range paths {
		own, ok := strings.CutPrefix(p, module)
		if ok && matches("models/...", pkg) && matches("encoder/... training/... server/...", own) {
			t.Errorf("%s imports %s: models are tested without what stands on them", file, own)
		}
		if ok && own == "models/backend/torch" && !matches("models/backend/torch training/...", pkg) {
			t.Errorf("%s imports %s: the test could not run without libtorch", file, own)
		}
	}
}
