/*
 * test_golden.c
 *	  What an earlier version stored is still read, and scores the same.
 */
#include "golden_fixture.h"

#define VERSION ".v1"

/* The next number of a list in text; NaN when there is none. */
static double
next_number(const char **text)
{
	char	   *end;
	double		number = strtod(*text, &end);

	if (end == *text)
		return NAN;
	*text = end;
	return number;
}

static void
test_scores(const GoldenForm *form, const SbaForest *forest)
{
	double	   *probes = golden_probes(form->n_features);
	double		scores[GOLDEN_PROBES];
	size_t		length = 0;
	uint8_t    *recorded = golden_read(form->name, VERSION ".scores", &length);
	const char *text = (const char *) recorded;
	int			one_by_one = 0;
	int			at_once = 0;

	if (!ok(recorded != NULL && probes != NULL, "%s: there are recorded scores", form->name))
	{
		free(recorded);
		free(probes);
		return;
	}
	sba_forest_score(forest, probes, GOLDEN_PROBES, scores);
	for (size_t row = 0; row < GOLDEN_PROBES; row++)
	{
		double		expected = next_number(&text);

		one_by_one += sba_forest_score_one(forest, probes + row * form->n_features) == expected;
		at_once += scores[row] == expected;
	}
	is_uint(one_by_one, GOLDEN_PROBES, "%s: each row has its recorded score", form->name);
	is_uint(at_once, GOLDEN_PROBES, "%s: also all rows at once", form->name);
	free(recorded);
	free(probes);
}

static void
test_forest(const GoldenForm *form)
{
	SbaForest	forest;
	TestForest	fitted;
	SbaError	error = {SBA_OK, ""};
	size_t		length = 0;
	uint8_t    *stored = golden_read(form->name, VERSION, &length);

	if (!ok(stored != NULL && sba_forest_open(stored, length, &forest, &error) == SBA_OK,
			"%s can be opened %s", form->name, error.message))
	{
		free(stored);
		return;
	}
	ok(forest.n_features == form->n_features && forest.n_trees == form->n_trees &&
	   forest.sample_size == form->sample_size && forest.seed == GOLDEN_SEED,
	   "%s is what was fitted", form->name);
	test_scores(form, &forest);
	if (ok(golden_forest(form, &fitted), "%s: fit the same rows again", form->name))
		ok(fitted.length == length && memcmp(fitted.bytes, stored, length) == 0,
		   "%s: the same rows and seed give the same bytes", form->name);
	drop(&fitted);
	free(stored);
}

/*
 * The parts of a verdict that need nothing of libm are exact; its logarithm and
 * powers are not the same to the last digit everywhere.
 */
static void
test_model(void)
{
	SbaModel	model;
	SbaError	error = {SBA_OK, ""};
	size_t		length = 0;
	size_t		recorded_length = 0;
	size_t		made_length = 0;
	uint8_t    *made = NULL;
	uint8_t    *stored = golden_read("model", VERSION, &length);
	uint8_t    *recorded = golden_read("model", VERSION ".scores", &recorded_length);
	const char *text = (const char *) recorded;

	if (ok(stored != NULL && recorded != NULL &&
		   sba_model_open(stored, length, &model, &error) == SBA_OK,
		   "the model can be opened %s", error.message))
	{
		is_uint(model.feature_set, sba_feature_set_hash(golden_metrics, GOLDEN_METRICS),
				"its feature set is that of its metrics");
		for (int sample = 0; sample < GOLDEN_SAMPLES; sample++)
		{
			SbaVerdict	verdict;

			golden_verdict(&model, sample, &verdict);
			is_double(verdict.score, next_number(&text), 1e-12, "sample %d has its score", sample);
			is_double(verdict.evidence, next_number(&text), 0, "sample %d has its evidence", sample);
			is_double(verdict.forest_score, next_number(&text), 0,
					  "sample %d has its forest's score", sample);
		}
		if (ok(golden_model(2, &made, &made_length), "make the same model again"))
			ok(made_length == length && memcmp(made, stored, length) == 0, "it has the same bytes");
	}
	free(made);
	free(recorded);
	free(stored);
}

int
main(void)
{
	plan_tests(0);
	for (size_t i = 0; i < N_GOLDEN_FORMS; i++)
		test_forest(&golden_forms[i]);
	test_model();
	return done();
}
