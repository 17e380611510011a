package ref_test

import (
	"testing"

	"likeness/models/backend/ref"
	"likeness/models/op/optest"
)

func TestSuite(t *testing.T) { optest.Run(t, 0, ref.Run) }
