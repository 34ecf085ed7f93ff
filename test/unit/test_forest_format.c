/*
 * test_forest_format.c
 *	  Damaged bytes are refused, or scored without harm: run this under
 *	  AddressSanitizer and UndefinedBehaviorSanitizer.
 */
#include <math.h>

#include "forest_fixture.h"

#define SUBNORMAL 0x1p-1060

#define RANDOM_SEED 20240115
#define MUTATIONS 60000

/* Forests of every form, small enough to be damaged at every byte. */
typedef struct Form
{
	const char *name;
	uint32_t	n_features;
	uint32_t	n_trees;
	uint32_t	sample_size;
	uint16_t	force_flags;
	uint16_t	avoid_flags;
} Form;

static const Form forms[] = {
	{"heaps", 5, 6, 64, 0, SBA_FOREST_FLAG_WIDE},
	{"full heaps", 2, 2, 256, 0, SBA_FOREST_FLAG_WIDE},
	{"wide heaps", 3, 4, 100, SBA_FOREST_FLAG_WIDE, 0},
	{"linked trees", 3, 3, 300, SBA_FOREST_FLAG_WIDE | SBA_FOREST_FLAG_LINKED, 0},
	{"a table", 1, 5, 100, SBA_FOREST_FLAG_TABLE, SBA_FOREST_FLAG_WIDE},
	{"a wide table", 1, 5, 300, SBA_FOREST_FLAG_TABLE | SBA_FOREST_FLAG_WIDE, 0},
	{"leaves", 2, 3, 1, 0, SBA_FOREST_FLAG_WIDE},
};

#define N_FORMS (sizeof(forms) / sizeof(forms[0]))

static bool
make_form(TestForest *test, const Form *form)
{
	double	   *rows = make_rows(500, form->n_features, 31);
	bool		made;

	/* A sub-sample of 1 is what a single row gives. */
	made = fit_form(test, rows, form->sample_size == 1 ? 1 : 500, form->n_features,
					form->n_trees, form->sample_size == 1 ? 256 : form->sample_size, 3,
					form->force_flags, form->avoid_flags);
	free(rows);
	return ok(made, "fit %s", form->name);
}

/*
 * Open length bytes, in memory that ends where they end, and use the forest if
 * that is allowed.  Returns the status of opening, or -1 if a score was not
 * what a score can be.
 */
static int
open_and_use(const uint8_t *bytes, size_t length)
{
	uint8_t    *copy = malloc(length > 0 ? length : 1);
	double		rows[3 * SBA_FOREST_MAX_FEATURES];
	double		contributions[SBA_FOREST_MAX_FEATURES];
	double		scores[3];
	SbaForest	forest;
	SbaError	error = {SBA_OK, ""};
	int			status;

	memcpy(copy, bytes, length);
	status = (int) sba_forest_open(copy, length, &forest, &error);
	if (status == SBA_OK)
	{
		for (uint32_t i = 0; i < 3 * forest.n_features; i++)
			rows[i] = i % 7 == 0 ? NAN : i % 5 == 0 ? INFINITY : (double) i / 4 - 1;
		sba_forest_score(&forest, rows, 3, scores);
		for (int i = 0; i < 3; i++)
		{
			if (!(scores[i] >= 0 && scores[i] <= 1) ||
				scores[i] != sba_forest_score_one(&forest, rows + (size_t) i * forest.n_features))
				status = -1;
			sba_forest_contributions(&forest, rows + (size_t) i * forest.n_features, contributions);
		}
	}
	else if (error.status != (SbaStatus) status || error.message[0] == '\0')
		status = -1;
	free(copy);
	return status;
}

static void
test_flips(const Form *form)
{
	TestForest	test;
	bool		refused = true;

	if (!make_form(&test, form))
		return;
	is_uint(open_and_use(test.bytes, test.length), SBA_OK, "it can be opened and used");
	for (size_t i = 0; i < test.length; i++)
	{
		for (int bit = 0; bit < 8; bit++)
		{
			int			status;

			test.bytes[i] ^= (uint8_t) (1 << bit);
			status = open_and_use(test.bytes, test.length);
			refused &= status == SBA_CORRUPT || status == SBA_UNSUPPORTED_VERSION;
			test.bytes[i] ^= (uint8_t) (1 << bit);
		}
	}
	ok(refused, "each of its %zu bits is checked", test.length * 8);
	drop(&test);
}

/* Cut off at every length: as it is, and with length and checksum put right. */
static void
test_truncations(const Form *form)
{
	TestForest	test;
	bool		refused = true;
	uint8_t    *copy;

	if (!make_form(&test, form))
		return;
	copy = malloc(test.length + 64);
	for (size_t length = 0; length < test.length; length++)
	{
		refused &= open_and_use(test.bytes, length) == SBA_CORRUPT;
		if (length >= SBA_FOREST_HEADER_SIZE)
		{
			memcpy(copy, test.bytes, length);
			sba_store_u64(copy + SBA_FOREST_AT_LENGTH, length);
			sba_forest_seal(copy, length);
			refused &= open_and_use(copy, length) == SBA_CORRUPT;
		}
	}
	ok(refused, "cut off anywhere it is refused, with a right checksum too");
	memset(copy, 0, test.length + 64);
	memcpy(copy, test.bytes, test.length);
	sba_store_u64(copy + SBA_FOREST_AT_LENGTH, test.length + 64);
	sba_forest_seal(copy, test.length + 64);
	is_uint(open_and_use(copy, test.length + 64), SBA_CORRUPT, "and with bytes behind its end");
	free(copy);
	drop(&test);
}

/*
 * Random damage with a right checksum: refused or harmless.  Bytes are set to
 * values that make bounds, or swapped, or flipped.
 */
static void
test_random_damage(const Form *form, uint64_t stream)
{
	static const uint8_t values[] = {0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff};
	TestForest	test;
	SbaRandom	random;
	uint8_t    *copy;
	uint32_t	opened = 0;
	bool		sound = true;

	if (!make_form(&test, form))
		return;
	copy = malloc(test.length);
	sba_random_start(&random, RANDOM_SEED, stream);
	for (int mutation = 0; mutation < MUTATIONS / (int) N_FORMS; mutation++)
	{
		uint32_t	changes = 1 + sba_random_below(&random, 4);
		int			status;

		memcpy(copy, test.bytes, test.length);
		for (uint32_t i = 0; i < changes; i++)
		{
			uint8_t    *at = copy + sba_random_below(&random, (uint32_t) test.length);

			switch (sba_random_below(&random, 3))
			{
				case 0:
					*at = values[sba_random_below(&random, sizeof(values))];
					break;
				case 1:
					*at ^= (uint8_t) (1 << sba_random_below(&random, 8));
					break;
				default:
					*at = copy[sba_random_below(&random, (uint32_t) test.length)];
			}
		}
		sba_forest_seal(copy, test.length);
		status = open_and_use(copy, test.length);
		sound &= status >= 0;
		opened += status == SBA_OK;
	}
	ok(sound, "seed %d: damaged with a right checksum it does no harm, %u were opened",
	   RANDOM_SEED, opened);
	free(copy);
	drop(&test);
}

/* Bytes at one place that must be refused although the checksum is right. */
static void
refuse(const TestForest *test, size_t at, const void *bytes, size_t size, SbaStatus expected,
	   const char *name)
{
	uint8_t    *copy = malloc(test->length);

	memcpy(copy, test->bytes, test->length);
	memcpy(copy + at, bytes, size);
	sba_forest_seal(copy, test->length);
	is_uint(open_and_use(copy, test->length), expected, "refuse %s", name);
	free(copy);
}

static void
refuse_u32(const TestForest *test, size_t at, uint32_t value, const char *name)
{
	uint8_t		bytes[4];

	sba_store_u32(bytes, value);
	refuse(test, at, bytes, 4, SBA_CORRUPT, name);
}

static void
refuse_f64(const TestForest *test, size_t at, double value, const char *name)
{
	uint8_t		bytes[8];

	sba_store_f64(bytes, value);
	refuse(test, at, bytes, 8, SBA_CORRUPT, name);
}

static void
test_header(void)
{
	TestForest	test;
	uint8_t		bytes[8];
	const size_t feature = SBA_FOREST_HEADER_SIZE + SBA_FOREST_FEATURE_SIZE;

	if (!make_form(&test, &forms[0]))
		return;
	refuse_u32(&test, SBA_FOREST_AT_MAGIC, 0x46494254, "another magic number");
	sba_store_u16(bytes, SBA_FOREST_FORMAT_VERSION + 1);
	refuse(&test, SBA_FOREST_AT_VERSION, bytes, 2, SBA_UNSUPPORTED_VERSION, "a later version");
	sba_store_u16(bytes, SBA_FOREST_FLAGS_KNOWN + 1);
	refuse(&test, SBA_FOREST_AT_FLAGS, bytes, 2, SBA_UNSUPPORTED_VERSION, "an unknown flag");
	sba_store_u16(bytes, SBA_FOREST_FLAG_LINKED | SBA_FOREST_FLAG_TABLE | SBA_FOREST_FLAG_WIDE);
	refuse(&test, SBA_FOREST_AT_FLAGS, bytes, 2, SBA_CORRUPT, "two forms at once");
	sba_store_u16(bytes, SBA_FOREST_FLAG_LINKED);
	refuse(&test, SBA_FOREST_AT_FLAGS, bytes, 2, SBA_CORRUPT, "linked trees with short keys");
	sba_store_u16(bytes, SBA_FOREST_FLAG_TABLE);
	refuse(&test, SBA_FOREST_AT_FLAGS, bytes, 2, SBA_CORRUPT, "a table of five features");
	sba_store_u16(bytes, SBA_FOREST_FLAG_WIDE);
	refuse(&test, SBA_FOREST_AT_FLAGS, bytes, 2, SBA_CORRUPT, "short keys taken for long ones");
	refuse_u32(&test, SBA_FOREST_AT_FEATURES, 0, "no features");
	refuse_u32(&test, SBA_FOREST_AT_FEATURES, 4, "a feature less");
	refuse_u32(&test, SBA_FOREST_AT_FEATURES, 257, "257 features");
	refuse_u32(&test, SBA_FOREST_AT_FEATURES, UINT32_MAX, "4,294,967,295 features");
	refuse_u32(&test, SBA_FOREST_AT_TREES, 0, "no trees");
	refuse_u32(&test, SBA_FOREST_AT_TREES, 5, "a tree less");
	refuse_u32(&test, SBA_FOREST_AT_TREES, 7, "a tree more");
	refuse_u32(&test, SBA_FOREST_AT_TREES, 1001, "1,001 trees");
	refuse_u32(&test, SBA_FOREST_AT_SAMPLE_SIZE, 0, "trees of no rows");
	refuse_u32(&test, SBA_FOREST_AT_SAMPLE_SIZE, 63, "trees of a row less");
	refuse_u32(&test, SBA_FOREST_AT_SAMPLE_SIZE, 32, "trees higher than allowed");
	refuse_u32(&test, SBA_FOREST_AT_SAMPLE_SIZE, 65537, "trees of 65,537 rows");
	refuse_u32(&test, SBA_FOREST_AT_ENTRIES, 1, "table entries where there is no table");
	refuse_u32(&test, SBA_FOREST_AT_RESERVED + 20, 1, "something where nothing may be");
	refuse_u32(&test, test.length - SBA_FOREST_FOOTER_SIZE, 1, "something behind the trees");
	refuse_f64(&test, feature, NAN, "a centre that is not a number");
	refuse_f64(&test, feature, INFINITY, "an infinite centre");
	refuse_f64(&test, feature + 8, 3, "a scale that is no power of two");
	refuse_f64(&test, feature + 8, -2, "a negative scale");
	refuse_f64(&test, feature + 8, 0, "a scale of zero");
	refuse_f64(&test, feature + 8, SUBNORMAL, "a scale below the normal numbers");
	refuse_f64(&test, feature + 8, INFINITY, "an infinite scale");
	refuse_f64(&test, feature + 16, NAN, "a fill that is not a number");
	drop(&test);
}

static void
test_heap_structure(void)
{
	TestForest	test;
	SbaForestLayout layout;
	SbaPackedTree packed;
	size_t		body;
	size_t		tree;
	size_t		keys;
	size_t		several;
	uint8_t		bytes[SBA_FOREST_BITMAP_SIZE];
	uint32_t	last;
	const uint8_t far_key[3] = {0x00, 0x00, 0x7c};
	const uint8_t low_key[3] = {0x00, 0x00, 0x80};

	if (!make_form(&test, &forms[0]))
		return;
	sba_forest_layout(&test.forest, &layout);
	sba_forest_packed_tree(&layout, 1, &packed);
	body = (size_t) (layout.body - test.bytes);
	tree = body + sba_load_u32(layout.body + 4);
	keys = (size_t) (packed.keys - test.bytes);
	several = (size_t) (packed.several - test.bytes);

	refuse_u32(&test, body + 4, sba_load_u32(test.bytes + body + 4) + 1, "a tree that begins later");
	refuse_u32(&test, body + 4, sba_load_u32(test.bytes + body), "the same tree twice");
	refuse_u32(&test, body + 4, UINT32_MAX, "a tree far outside");

	memcpy(bytes, test.bytes + tree, sizeof(bytes));
	bytes[0] |= 1;
	refuse(&test, tree, bytes, sizeof(bytes), SBA_CORRUPT, "a split above the root");
	memset(bytes, 0xff, sizeof(bytes));
	refuse(&test, tree, bytes, sizeof(bytes), SBA_CORRUPT, "splits everywhere");
	memset(bytes, 0, sizeof(bytes));
	refuse(&test, tree, bytes, sizeof(bytes), SBA_CORRUPT, "splits nowhere");

	/* Move the last split to where it has no parent, then below the limit. */
	memcpy(bytes, test.bytes + tree, sizeof(bytes));
	for (last = 255; (bytes[last / 8] >> (last % 8) & 1) == 0;)
		last--;
	bytes[last / 8] ^= (uint8_t) (1 << (last % 8));
	bytes[255 / 8] |= 1 << (255 % 8);
	refuse(&test, tree, bytes, sizeof(bytes), SBA_CORRUPT, "a split without a parent");
	bytes[255 / 8] ^= 1 << (255 % 8);
	last *= 2;
	bytes[last / 8] |= (uint8_t) (1 << (last % 8));
	refuse(&test, tree, bytes, sizeof(bytes), SBA_CORRUPT, "a split below the height limit");

	bytes[0] = (uint8_t) ((packed.keys[0] & ~7) | 5);
	refuse(&test, keys, bytes, 1, SBA_CORRUPT, "a split on a feature that does not exist");
	refuse(&test, keys, far_key, 3, SBA_CORRUPT, "a split beyond all values");
	refuse(&test, keys, low_key, 3, SBA_CORRUPT, "a split below all values");

	bytes[0] = (uint8_t) (*packed.sizes + 1);
	refuse(&test, (size_t) (packed.sizes - test.bytes), bytes, 1, SBA_CORRUPT, "a row too many");
	bytes[0] = (uint8_t) (*packed.several ^ 1);
	refuse(&test, several, bytes, 1, SBA_CORRUPT, "another leaf of several rows");
	drop(&test);
}

static void
test_linked_structure(void)
{
	TestForest	test;
	SbaForestLayout layout;
	size_t		counts;
	size_t		paths;
	size_t		record;
	uint32_t	child;

	if (!make_form(&test, &forms[3]))
		return;
	sba_forest_layout(&test.forest, &layout);
	counts = (size_t) (layout.body - test.bytes);
	paths = counts + 8 * test.forest.n_trees;
	record = paths + 4 * ((size_t) test.forest.sample_size + 1);

	refuse_u32(&test, counts, 0, "a tree that is a leaf, before trees that are not");
	refuse_u32(&test, counts, UINT32_MAX, "a tree longer than everything");
	refuse_u32(&test, counts + 4, 1, "a tree of 2^32 splits");
	refuse_u32(&test, paths + 40, 1, "a wrong c(10)");
	refuse_u32(&test, record, 0x00000003, "a split on a feature that does not exist");
	refuse_u32(&test, record, 0x7fffff00, "a split beyond all values");
	refuse_u32(&test, record + 12, 299, "a root that lacks a row");

	/* A split with two below it, as the root need not be. */
	while (((test.bytes[record + 7] | test.bytes[record + 11]) & 0x80) != 0)
		record += SBA_FOREST_RECORD_SIZE;
	child = sba_load_u32(test.bytes + record + 4);
	refuse_u32(&test, record + 4, child - 1, "a child that has come before");
	refuse_u32(&test, record + 4, child + 1, "children in another order");
	refuse_u32(&test, record + 8, child, "a child of two parents");
	refuse_u32(&test, record + 8, 100000, "a child far outside");
	refuse_u32(&test, record + 4, SBA_FOREST_LEAF_BIT, "an empty leaf");
	refuse_u32(&test, record + 4, SBA_FOREST_LEAF_BIT | 1, "a split that nothing leads to");
	refuse_u32(&test, record + 12, 1, "a split that lacks rows");
	drop(&test);
}

static void
test_table_structure(void)
{
	TestForest	test;
	SbaForestLayout layout;
	size_t		keys;
	uint32_t	n_entries;
	uint8_t		bytes[8];

	if (!make_form(&test, &forms[5]))
		return;
	sba_forest_layout(&test.forest, &layout);
	keys = (size_t) (layout.body - test.bytes);
	n_entries = sba_load_u32(test.bytes + SBA_FOREST_AT_ENTRIES);

	refuse_u32(&test, SBA_FOREST_AT_ENTRIES, n_entries + 1, "an entry more");
	refuse_u32(&test, SBA_FOREST_AT_ENTRIES, n_entries - 1, "an entry less");
	refuse_u32(&test, SBA_FOREST_AT_ENTRIES, UINT32_MAX, "4,294,967,295 entries");
	sba_store_u16(bytes, SBA_FOREST_FLAG_TABLE);
	refuse(&test, SBA_FOREST_AT_FLAGS, bytes, 2, SBA_CORRUPT, "long keys taken for short ones");
	refuse_u32(&test, keys + 8, sba_load_u32(test.bytes + keys + 4), "two equal keys");
	refuse_u32(&test, keys + 8, 0x80000000, "keys that fall");
	refuse_u32(&test, keys + 4 * ((size_t) n_entries - 1), 0x7fffffff, "a key beyond all values");
	refuse_u32(&test, keys + 4 * (size_t) n_entries, UINT32_MAX, "a path that is too long");
	drop(&test);
}

/* Nothing but the frame is right. */
static void
test_garbage(void)
{
	uint8_t		garbage[512];
	SbaRandom	random;
	bool		refused = true;

	sba_random_start(&random, RANDOM_SEED, 999);
	for (int round = 0; round < 2000; round++)
	{
		for (size_t i = 0; i < sizeof(garbage); i++)
			garbage[i] = (uint8_t) sba_random_u64(&random);
		sba_store_u32(garbage + SBA_FOREST_AT_MAGIC, SBA_FOREST_MAGIC);
		sba_store_u16(garbage + SBA_FOREST_AT_VERSION, SBA_FOREST_FORMAT_VERSION);
		sba_store_u16(garbage + SBA_FOREST_AT_FLAGS, (uint16_t) (round & SBA_FOREST_FLAGS_KNOWN));
		sba_store_u64(garbage + SBA_FOREST_AT_LENGTH, sizeof(garbage));
		sba_forest_seal(garbage, sizeof(garbage));
		refused &= open_and_use(garbage, sizeof(garbage)) == SBA_CORRUPT;
	}
	ok(refused, "random bytes with a right frame are refused");
}

int
main(void)
{
	plan_tests(0);
	for (size_t i = 0; i < N_FORMS; i++)
	{
		test_flips(&forms[i]);
		test_truncations(&forms[i]);
		test_random_damage(&forms[i], i);
	}
	test_header();
	test_heap_structure();
	test_linked_structure();
	test_table_structure();
	test_garbage();
	return done();
}
