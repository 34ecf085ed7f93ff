/*
 * patterns.c
 *	  smartbox.patterns: read, and kept in memory.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "db/patterns.h"
#include "pg/query.h"
#include "pg/table_watch.h"

static SbaTableWatch watch = {.table = "patterns"};
static MemoryContext memory = NULL;
static SbaPatternSet *kept = NULL;

static SbaQuery patterns_query = {
	.text = "SELECT pattern, priority, severity::text, conditions, message, interpretation,"
	" possible_causes, recommended_actions"
	" FROM smartbox.patterns WHERE enabled ORDER BY priority, pattern COLLATE \"C\"",
	.expected = SPI_OK_SELECT,
};

static int
read_texts(Datum array, const char **texts)
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;
	int			i;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	n = Min(n, SBA_MAX_PATTERN_TEXTS);
	for (i = 0; i < n; i++)
		texts[i] = nulls[i] ? "" : TextDatumGetCString(elements[i]);
	return n;
}

/* Read one row; false when its conditions cannot be read. */
static bool
read_pattern(uint64 row, SbaPatternMetrics *metrics, SbaNamedPattern *pattern)
{
	SbaPatternProblem problem;
	bool		is_null;
	Jsonb	   *conditions;

	pattern->name = sba_result_text(row, 1);
	pattern->compiled.priority = sba_result_int4(row, 2, 0);
	if (!sba_severity_by_name(sba_result_text(row, 3), &pattern->compiled.severity))
		elog(ERROR, "pattern \"%s\" has an unknown severity", pattern->name);
	pattern->message = sba_result_text(row, 5);
	pattern->interpretation = sba_result_text(row, 6);
	pattern->n_causes = read_texts(sba_result_datum(row, 7, &is_null), pattern->cause);
	pattern->n_actions = read_texts(sba_result_datum(row, 8, &is_null), pattern->action);
	conditions = DatumGetJsonbP(sba_result_datum(row, 4, &is_null));
	if (sba_compile_conditions(conditions, metrics, &pattern->compiled, &problem))
		return true;
	ereport(WARNING,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("pattern \"%s\" is left out: its conditions cannot be read", pattern->name),
			 errdetail_internal("%s.", problem.message)));
	return false;
}

static void
load_patterns(void)
{
	MemoryContext fresh;
	MemoryContext caller;
	SbaPatternSet *set;
	int			n_rows;
	int			i;

	/* an error from here on leaves nothing that looks fresh */
	kept = NULL;
	if (memory != NULL)
		MemoryContextDelete(memory);
	memory = NULL;
	fresh = AllocSetContextCreate(CurrentMemoryContext, "smartbox_anomaly patterns", ALLOCSET_DEFAULT_SIZES);

	sba_query_run(&patterns_query, NULL, NULL, 0);
	n_rows = (int) SPI_processed;
	caller = MemoryContextSwitchTo(fresh);
	set = palloc0(sizeof(SbaPatternSet));
	set->pattern = palloc0(sizeof(SbaNamedPattern) * (n_rows + 1));
	for (i = 0; i < n_rows; i++)
		if (read_pattern(i, &set->metrics, &set->pattern[set->n_patterns]))
			set->n_patterns++;
	MemoryContextSwitchTo(caller);
	SPI_freetuptable(SPI_tuptable);
	MemoryContextSetParent(fresh, TopMemoryContext);
	memory = fresh;
	kept = set;
}

const SbaPatternSet *
sba_patterns(void)
{
	if (!sba_table_is_unchanged(&watch) || kept == NULL)
		load_patterns();
	return kept;
}

int
sba_match_patterns(const SbaPatternSet *set, const SbaSituation *situation,
				   const SbaNamedPattern **matches, int max)
{
	int			n = 0;
	int			i;

	for (i = 0; i < set->n_patterns && n < max; i++)
		if (sba_pattern_matches(&set->pattern[i].compiled, situation))
			matches[n++] = &set->pattern[i];
	return n;
}
