# Builds the unit tests and the fuzz targets, which need no server:
# core/ is compiled with each set of flags into a folder of its own.
#
#   make -f test/programs.mk OUT=folder FLAGS=... [CC=clang] unit | fuzz
#   make -f test/programs.mk OUT=folder eval       OUT/ablation
#   make -f test/programs.mk seeds                 the files that fuzzing begins with
#   make -f test/programs.mk golden VERSION=...    test/golden of a new stored format

OUT := build/programs
FLAGS := -O2
WARNINGS := -Wall -Wextra -Wno-unused-parameter -Wmissing-prototypes -Wpointer-arith -Wvla -Werror
override CFLAGS += -std=c11 -D_GNU_SOURCE -g -ffp-contract=off -fno-omit-frame-pointer $(WARNINGS)

CORE_OBJECTS := $(patsubst src/%.c,$(OUT)/%.o,$(wildcard src/core/*.c))
CORE := $(OUT)/core.a
HEADERS := $(wildcard src/core/*.h test/unit/*.h)

# Files of test/unit that are not a test help all of them.
UNIT_TESTS := $(patsubst test/unit/%.c,$(OUT)/%,$(wildcard test/unit/test_*.c))
UNIT_HELPERS := $(patsubst test/unit/%.c,$(OUT)/unit/%.o,$(filter-out test/unit/test_%.c,$(wildcard test/unit/*.c)))
FUZZ_TARGETS := $(patsubst test/fuzz/%.c,$(OUT)/%,$(wildcard test/fuzz/*.c))

.PHONY: unit fuzz eval seeds golden
unit: $(UNIT_TESTS)
fuzz: $(FUZZ_TARGETS)
eval: $(OUT)/ablation

$(OUT)/core/%.o: src/core/%.c $(HEADERS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(FLAGS) $(CORE_FLAGS) -Isrc -c -o $@ $<

$(CORE): $(CORE_OBJECTS)
	rm -f $@
	ar rcs $@ $^

$(OUT)/unit/%.o: test/unit/%.c $(HEADERS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(FLAGS) -Isrc -Itest/unit -c -o $@ $<

$(UNIT_TESTS): $(OUT)/%: test/unit/%.c $(UNIT_HELPERS) $(CORE) $(HEADERS)
	$(CC) $(CFLAGS) $(FLAGS) -Isrc -Itest/unit -o $@ $< $(UNIT_HELPERS) $(CORE) -lyajl -lm

$(FUZZ_TARGETS): $(OUT)/%: test/fuzz/%.c $(CORE) $(HEADERS)
	$(CC) $(CFLAGS) $(FLAGS) -fsanitize=fuzzer -Isrc -o $@ $< $(CORE) -lyajl -lm

$(OUT)/ablation: $(wildcard test/eval/*.[ch]) $(CORE)
	$(CC) $(CFLAGS) $(FLAGS) -Isrc -Itest/eval -o $@ $(wildcard test/eval/*.c) $(CORE) -lyajl -lm

$(OUT)/make_files: test/golden/make_files.c $(CORE) $(HEADERS)
	$(CC) $(CFLAGS) $(FLAGS) -Isrc -Itest/unit -o $@ $< $(CORE) -lyajl -lm

seeds: $(OUT)/make_files
	$<

golden: $(OUT)/make_files
	$< $(VERSION)
