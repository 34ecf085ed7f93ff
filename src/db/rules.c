/*
 * rules.c
 *	  smartbox.rules: the hard rules of each service, kept in memory.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "db/rules.h"
#include "pg/query.h"
#include "pg/table_watch.h"

static const char *const all_services = "*";

static SbaTableWatch watch = {.table = "rules"};
static MemoryContext memory = NULL;
static SbaStoredRule *stored = NULL;	/* sorted by service in byte order */
static int	n_stored = 0;

static SbaQuery rules_query = {
	.text = "SELECT service, metric, comparison, threshold, severity::text, min_requests, enabled"
	" FROM smartbox.rules ORDER BY service COLLATE \"C\", metric, comparison, severity",
	.expected = SPI_OK_SELECT,
};

static void
load_rules(void)
{
	MemoryContext fresh;
	MemoryContext caller;
	SbaStoredRule *rules;
	int			n;
	int			i;

	/* an error from here on leaves nothing that looks fresh */
	if (memory != NULL)
		MemoryContextDelete(memory);
	memory = NULL;
	fresh = AllocSetContextCreate(CurrentMemoryContext, "smartbox_anomaly rules", ALLOCSET_SMALL_SIZES);

	sba_query_run(&rules_query, NULL, NULL, 0);
	n = (int) SPI_processed;
	caller = MemoryContextSwitchTo(fresh);
	rules = palloc(sizeof(SbaStoredRule) * (n + 1));
	for (i = 0; i < n; i++)
	{
		SbaRule    *rule = &rules[i].rule;

		rules[i].service = sba_result_text(i, 1);
		rules[i].enabled = sba_result_bool(i, 7);
		rule->metric = sba_result_text(i, 2);
		if (!sba_comparison_by_name(sba_result_text(i, 3), &rule->comparison) ||
			!sba_severity_by_name(sba_result_text(i, 5), &rule->severity))
			elog(ERROR, "rule of metric \"%s\" cannot be read", rule->metric);
		rule->threshold = sba_result_float8(i, 4, 0);
		rule->min_requests = sba_result_float8(i, 6, 0);
		rule->is_own = strcmp(rules[i].service, all_services) != 0;
	}
	MemoryContextSwitchTo(caller);
	SPI_freetuptable(SPI_tuptable);
	MemoryContextSetParent(fresh, TopMemoryContext);
	memory = fresh;
	stored = rules;
	n_stored = n;
}

/* The first of a service's rows, or where it would be, and their number. */
static int
rows_of(const char *service, int *n)
{
	int			low = 0;
	int			high = n_stored;

	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (strcmp(stored[middle].service, service) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (*n = 0; low + *n < n_stored && strcmp(stored[low + *n].service, service) == 0; (*n)++)
		;
	return low;
}

static bool
is_same_rule(const SbaRule *a, const SbaRule *b)
{
	return a->comparison == b->comparison && a->severity == b->severity && strcmp(a->metric, b->metric) == 0;
}

int
sba_rules_of(const char *service, const SbaRule ***rules)
{
	int			first_own;
	int			n_own;
	int			first_for_all;
	int			n_for_all;
	int			n = 0;
	int			i;
	int			j;

	if (!sba_table_is_unchanged(&watch) || memory == NULL)
		load_rules();

	first_own = rows_of(service, &n_own);
	first_for_all = rows_of(all_services, &n_for_all);
	*rules = palloc(sizeof(SbaRule *) * (n_own + n_for_all + 1));
	for (i = first_own; i < first_own + n_own; i++)
		if (stored[i].enabled)
			(*rules)[n++] = &stored[i].rule;
	for (i = first_for_all; i < first_for_all + n_for_all; i++)
	{
		for (j = first_own; j < first_own + n_own; j++)
			if (is_same_rule(&stored[j].rule, &stored[i].rule))
				break;
		if (j == first_own + n_own && stored[i].enabled)
			(*rules)[n++] = &stored[i].rule;
	}
	return n;
}

int
sba_rules_with(const char *service, const SbaStoredRule *own, int n_own, const SbaRule ***rules)
{
	const SbaRule **in_force;
	int			n_in_force = sba_rules_of(service, &in_force);
	int			n = 0;
	int			i;
	int			j;

	*rules = palloc(sizeof(SbaRule *) * (n_in_force + n_own + 1));
	for (i = 0; i < n_in_force; i++)
	{
		for (j = 0; j < n_own; j++)
			if (is_same_rule(&own[j].rule, in_force[i]))
				break;
		if (j == n_own)
			(*rules)[n++] = in_force[i];
	}
	for (j = 0; j < n_own; j++)
		if (own[j].enabled)
			(*rules)[n++] = &own[j].rule;
	return n;
}
