/*
 * test_root_cause.c
 *	  The search for the most upstream incident, by hand and against a naive
 *	  one on random graphs.
 */
#include <stdlib.h>
#include <string.h>

#include "core/random.h"
#include "core/root_cause.h"
#include "tap.h"

#define MINUTE		INT64_C(60000000)
#define MAX_NODES	14

static SbaActiveIncident incidents[MAX_NODES];
static SbaDependency dependencies[MAX_NODES * MAX_NODES];
static SbaSuspicion suspicions[MAX_NODES];
static int	n_incidents;
static int	n_dependencies;

static void
incident(int service, int minute, SbaSeverity severity)
{
	SbaActiveIncident *new = &incidents[n_incidents++];

	new->service = service;
	new->first_seen_us = minute * MINUTE;
	new->last_evaluated_us = 1000 * MINUTE;
	new->severity = severity;
}

static void
depends(int service, int on)
{
	dependencies[n_dependencies].service = service;
	dependencies[n_dependencies++].depends_on = on;
}

static void
begin(void)
{
	n_incidents = n_dependencies = 0;
}

static bool
find(void)
{
	SbaError	error;

	return sba_find_root_causes(incidents, n_incidents, dependencies, n_dependencies,
								suspicions, &error) == SBA_OK;
}

static void
test_chains(void)
{
	begin();
	ok(find(), "no incidents at all");

	incident(0, 100, SBA_SEVERITY_HIGH);
	incident(1, 100, SBA_SEVERITY_HIGH);
	incident(2, 100, SBA_SEVERITY_LOW);
	depends(0, 1);
	depends(1, 2);
	depends(2, 3);
	ok(find() && suspicions[0].root == 2, "the end of a chain is the root, however harmless");
	ok(suspicions[0].next == 1 && suspicions[0].distance == 2, "by way of the service between");
	ok(suspicions[2].root == 2 && suspicions[2].next == 2 && suspicions[2].distance == 0,
	   "which has none itself: what it depends on is well");

	begin();
	incident(0, 100, SBA_SEVERITY_HIGH);
	incident(2, 100, SBA_SEVERITY_HIGH);
	depends(0, 1);
	depends(1, 2);
	ok(find() && suspicions[0].root == 0, "a healthy service between is no way");

	begin();
	incident(0, 100, SBA_SEVERITY_HIGH);
	incident(1, 101, SBA_SEVERITY_HIGH);
	incident(2, 100, SBA_SEVERITY_LOW);
	incident(3, 100, SBA_SEVERITY_HIGH);
	depends(0, 1);
	depends(0, 2);
	depends(0, 3);
	ok(find() && suspicions[0].root == 3, "of several ends the first and then the worst");
}

static void
test_circles(void)
{
	begin();
	incident(0, 103, SBA_SEVERITY_HIGH);
	incident(1, 101, SBA_SEVERITY_HIGH);
	incident(2, 102, SBA_SEVERITY_HIGH);
	depends(0, 1);
	depends(1, 2);
	depends(2, 0);
	ok(find() && suspicions[0].root == 1 && suspicions[1].root == 1 && suspicions[2].root == 1,
	   "the first one stands for a circle");
	ok(suspicions[2].distance == 2 && suspicions[2].next == 0, "... which the others find their way to");

	incident(3, 104, SBA_SEVERITY_LOW);
	depends(2, 2);
	depends(2, 3);
	ok(find() && suspicions[0].root == 3 && suspicions[1].root == 3 && suspicions[2].root == 3,
	   "a way out of a circle leads on");
}

static void
test_time(void)
{
	begin();
	incident(0, 100, SBA_SEVERITY_HIGH);
	incident(1, 130, SBA_SEVERITY_HIGH);
	depends(0, 1);
	ok(find() && suspicions[0].root == 1, "a cause may be noticed half an hour later");
	incidents[1].first_seen_us += 1;
	ok(find() && suspicions[0].root == 0, "no later than that");

	incidents[1].first_seen_us = 20 * MINUTE;
	incidents[1].last_evaluated_us = 70 * MINUTE;
	ok(find() && suspicions[0].root == 1, "one that had begun long before may be the cause");
	incidents[1].last_evaluated_us = 70 * MINUTE - 1;
	ok(find() && suspicions[0].root == 0, "unless nobody has looked at it since");

	begin();
	incident(0, 100, SBA_SEVERITY_HIGH);
	incident(1, 10, SBA_SEVERITY_CRITICAL);
	incident(2, 95, SBA_SEVERITY_LOW);
	depends(0, 1);
	depends(0, 2);
	ok(find() && suspicions[0].root == 2, "what broke at about the same time goes before what had been broken for long");

	begin();
	incident(0, 100, SBA_SEVERITY_HIGH);
	incident(1, 10, SBA_SEVERITY_HIGH);
	incident(1, 98, SBA_SEVERITY_HIGH);
	incident(1, 200, SBA_SEVERITY_HIGH);
	depends(0, 1);
	ok(find() && suspicions[0].root == 2, "of a service's incidents the newest that did not begin later");
}

/* The same by the definition: all that can be reached, from each one anew. */
static bool leads[MAX_NODES][MAX_NODES];

static bool
may_be_behind(int i, int j)
{
	return incidents[j].first_seen_us <= incidents[i].first_seen_us + SBA_CASCADE_WINDOW_US &&
		incidents[j].last_evaluated_us >= incidents[i].first_seen_us - SBA_CASCADE_WINDOW_US;
}

static void
naive_edges(void)
{
	int			i;
	int			j;
	int			d;

	memset(leads, 0, sizeof(leads));
	for (i = 0; i < n_incidents; i++)
	{
		bool		recent = false;

		for (d = 0; d < n_dependencies; d++)
		{
			int			newest = -1;

			if (dependencies[d].service != incidents[i].service || dependencies[d].depends_on == incidents[i].service)
				continue;
			for (j = 0; j < n_incidents; j++)
				if (incidents[j].service == dependencies[d].depends_on && may_be_behind(i, j) &&
					(newest < 0 || incidents[j].first_seen_us >= incidents[newest].first_seen_us))
					newest = j;
			if (newest < 0)
				continue;
			leads[i][newest] = true;
			recent |= incidents[newest].first_seen_us >= incidents[i].first_seen_us - SBA_CASCADE_WINDOW_US;
		}
		for (j = 0; j < n_incidents; j++)
			leads[i][j] &= !recent || incidents[j].first_seen_us >= incidents[i].first_seen_us - SBA_CASCADE_WINDOW_US;
	}
}

static bool
is_before(int a, int b)
{
	if (incidents[a].first_seen_us != incidents[b].first_seen_us)
		return incidents[a].first_seen_us < incidents[b].first_seen_us;
	if (incidents[a].severity != incidents[b].severity)
		return incidents[a].severity > incidents[b].severity;
	return a < b;
}

/* Root by the definition: an end is what is reached back from all it reaches. */
static int
naive_root(int steps[MAX_NODES][MAX_NODES], int from)
{
	int			best = -1;
	int			i;
	int			j;

	for (i = 0; i < n_incidents; i++)
	{
		bool		is_end = steps[from][i] >= 0;

		for (j = 0; j < n_incidents && is_end; j++)
			is_end = steps[i][j] < 0 || steps[j][i] >= 0;
		if (is_end && (best < 0 || is_before(i, best)))
			best = i;
	}
	return best;
}

static bool
agrees_with_naive(void)
{
	int			steps[MAX_NODES][MAX_NODES];
	int			i;
	int			j;
	int			k;

	naive_edges();
	for (i = 0; i < n_incidents; i++)
		for (j = 0; j < n_incidents; j++)
			steps[i][j] = i == j ? 0 : leads[i][j] ? 1 : -1;
	for (k = 0; k < n_incidents; k++)
		for (i = 0; i < n_incidents; i++)
			for (j = 0; j < n_incidents; j++)
				if (steps[i][k] >= 0 && steps[k][j] >= 0 &&
					(steps[i][j] < 0 || steps[i][k] + steps[k][j] < steps[i][j]))
					steps[i][j] = steps[i][k] + steps[k][j];
	for (i = 0; i < n_incidents; i++)
	{
		const SbaSuspicion *found = &suspicions[i];

		if (found->root != naive_root(steps, i) || found->distance != steps[i][found->root])
			return false;
		if (found->root == i ? found->next != i :
			!leads[i][found->next] || suspicions[found->next].distance != found->distance - 1)
			return false;
	}
	return true;
}

static void
random_graph(SbaRandom *random)
{
	int			n_services = 1 + (int) sba_random_below(random, 8);
	uint32_t	density = 1 + sba_random_below(random, 60);
	uint32_t	span = 1 + sba_random_below(random, 120);
	int			service;
	int			other;

	begin();
	for (service = 0; service < n_services; service++)
	{
		int			n = (int) sba_random_below(random, 3);
		int			minute = 0;

		while (n-- > 0 && n_incidents < MAX_NODES)
		{
			minute += (int) sba_random_below(random, span);
			incident(service, minute, SBA_SEVERITY_LOW + sba_random_below(random, 3));
			incidents[n_incidents - 1].last_evaluated_us = (minute + (int64_t) sba_random_below(random, 120)) * MINUTE;
		}
		for (other = 0; other < n_services; other++)
			if (sba_random_below(random, 100) < density)
				depends(service, other);
	}
}

static void
test_against_naive(void)
{
	const uint64_t seed = 20261122;
	const int	n_graphs = 20000;
	int			n_agree = 0;
	int			n_with_root = 0;
	int			i;
	int			j;

	for (i = 0; i < n_graphs; i++)
	{
		SbaRandom	random;

		sba_random_start(&random, seed, (uint64_t) i);
		random_graph(&random);
		n_agree += find() && agrees_with_naive();
		for (j = 0; j < n_incidents; j++)
			n_with_root += suspicions[j].root != j;
	}
	ok(n_agree == n_graphs, "as the naive search in %d of %d random graphs", n_agree, n_graphs);
	ok(n_with_root > n_graphs, "in which %d incidents have a root", n_with_root);
}

/* A chain longer than any stack would bear. */
static void
test_long_chain(void)
{
	const int	length = 1000000;
	SbaActiveIncident *chain = calloc(length, sizeof(*chain));
	SbaDependency *links = calloc(length, sizeof(*links));
	SbaSuspicion *found = calloc(length, sizeof(*found));
	SbaError	error;
	int			i;

	for (i = 0; i < length; i++)
	{
		chain[i].service = links[i].service = i;
		links[i].depends_on = i + 1;
	}
	ok(sba_find_root_causes(chain, length, links, length, found, &error) == SBA_OK &&
	   found[0].root == length - 1 && found[0].distance == length - 1, "a chain of a million services");
	links[length - 1].depends_on = 0;
	chain[length / 2].severity = SBA_SEVERITY_HIGH;
	ok(sba_find_root_causes(chain, length, links, length, found, &error) == SBA_OK &&
	   found[0].root == length / 2 && found[length / 2 + 1].distance == length - 1, "a circle of a million");
	free(chain);
	free(links);
	free(found);
}

int
main(void)
{
	plan_tests(0);
	test_chains();
	test_circles();
	test_time();
	test_against_naive();
	test_long_chain();
	return done();
}
