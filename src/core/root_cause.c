/*
 * root_cause.c
 *	  Which incident is behind which.
 *
 * Circles are found by Tarjan's algorithm (1972), with a stack of its own
 * instead of recursion: a chain of dependencies may be as long as the fleet.
 * It completes a component after all that it leads to, so one pass over the
 * components in that order hands the suspicion up.  The shortest ways are
 * then walked from the roots against the edges.
 */
#include "core/root_cause.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define NONE (-1)

typedef struct Graph
{
	const SbaActiveIncident *incidents;
	int			n;
	size_t	   *first_edge;		/* [n + 1], where a node's edges begin */
	int		   *target;
} Graph;

/* Components: circles, or single incidents, those that are led to first. */
typedef struct Components
{
	int			n;
	int		   *of;				/* [nodes] */
	int		   *member;			/* [nodes], grouped by component */
	int		   *first_member;	/* [n + 1] */
} Components;

/* Where a service's entries begin in a list sorted by service. */
typedef struct Position
{
	int			begin;
	int			end;
} Position;

static Position
incidents_of(const Graph *graph, int service)
{
	Position	found;
	int			low = 0;
	int			high = graph->n;

	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (graph->incidents[middle].service < service)
			low = middle + 1;
		else
			high = middle;
	}
	found.begin = low;
	while (low < graph->n && graph->incidents[low].service == service)
		low++;
	found.end = low;
	return found;
}

/* The newest incident of a service that may be behind this one, or NONE. */
static int
possible_cause(const Graph *graph, const SbaActiveIncident *incident, int service)
{
	Position	candidates = incidents_of(graph, service);
	int			i;

	for (i = candidates.end - 1; i >= candidates.begin; i--)
		if (graph->incidents[i].first_seen_us <= incident->first_seen_us + SBA_CASCADE_WINDOW_US &&
			graph->incidents[i].last_evaluated_us >= incident->first_seen_us - SBA_CASCADE_WINDOW_US)
			return i;
	return NONE;
}

/*
 * Fill in the edges of a node from its service's dependencies; returns where
 * they end.
 */
static size_t
add_edges(Graph *graph, int node, const SbaDependency *dependencies, Position own)
{
	const SbaActiveIncident *incident = &graph->incidents[node];
	int64_t		recent = incident->first_seen_us - SBA_CASCADE_WINDOW_US;
	size_t		begin = graph->first_edge[node];
	size_t		end = begin;
	size_t		kept = begin;
	bool		any_recent = false;
	size_t		e;
	int			d;

	for (d = own.begin; d < own.end; d++)
	{
		int			cause = dependencies[d].depends_on == incident->service ?
		NONE : possible_cause(graph, incident, dependencies[d].depends_on);

		if (cause == NONE)
			continue;
		graph->target[end++] = cause;
		any_recent |= graph->incidents[cause].first_seen_us >= recent;
	}
	for (e = begin; e < end; e++)
		if (!any_recent || graph->incidents[graph->target[e]].first_seen_us >= recent)
			graph->target[kept++] = graph->target[e];
	return kept;
}

/* Build the graph; first_edge and target are malloc'ed, to be freed. */
static bool
build_graph(Graph *graph, const SbaDependency *dependencies, int n_dependencies)
{
	size_t		capacity = 0;
	Position	own = {0, 0};
	int			pass;
	int			node;

	graph->first_edge = calloc((size_t) graph->n + 1, sizeof(size_t));
	graph->target = NULL;
	if (graph->first_edge == NULL)
		return false;

	/* how much room it takes at most, then the edges themselves */
	for (pass = 0; pass < 2; pass++)
	{
		own.begin = own.end = 0;
		for (node = 0; node < graph->n; node++)
		{
			int			service = graph->incidents[node].service;

			if (node == 0 || service != graph->incidents[node - 1].service)
			{
				for (own.begin = own.end; own.begin < n_dependencies && dependencies[own.begin].service < service;)
					own.begin++;
				for (own.end = own.begin; own.end < n_dependencies && dependencies[own.end].service == service;)
					own.end++;
			}
			if (pass == 0)
				capacity += (size_t) (own.end - own.begin);
			else
				graph->first_edge[node + 1] = add_edges(graph, node, dependencies, own);
		}
		if (pass == 0)
		{
			graph->target = calloc(capacity + 1, sizeof(int));
			if (graph->target == NULL)
				return false;
		}
	}
	return true;
}

/* What Tarjan's algorithm keeps of each node, and its two stacks. */
typedef struct Search
{
	int			next_number;
	int		   *number;			/* in the order of discovery; NONE before */
	int		   *lowest;			/* number that can be led back to */
	size_t	   *edge;			/* the edge to look at next */
	int		   *path;			/* from where the search began to here */
	int			path_length;
	int		   *open;			/* discovered, not in a component yet */
	int			n_open;
} Search;

static void
discover(const Graph *graph, Search *search, int node)
{
	search->number[node] = search->lowest[node] = search->next_number++;
	search->edge[node] = graph->first_edge[node];
	search->path[search->path_length++] = node;
	search->open[search->n_open++] = node;
}

/* The open nodes from this one on are a component. */
static void
complete_component(Components *components, Search *search, int node)
{
	int			n_members = components->first_member[components->n];
	int			member;

	do
	{
		member = search->open[--search->n_open];
		components->of[member] = components->n;
		components->member[n_members++] = member;
	} while (member != node);
	components->first_member[++components->n] = n_members;
}

static void
search_from(const Graph *graph, Components *components, Search *search, int start)
{
	discover(graph, search, start);
	while (search->path_length > 0)
	{
		int			node = search->path[search->path_length - 1];

		if (search->edge[node] < graph->first_edge[node + 1])
		{
			int			target = graph->target[search->edge[node]++];

			if (search->number[target] == NONE)
				discover(graph, search, target);
			else if (components->of[target] == NONE && search->number[target] < search->lowest[node])
				search->lowest[node] = search->number[target];
			continue;
		}
		if (search->lowest[node] == search->number[node])
			complete_component(components, search, node);
		if (--search->path_length > 0)
		{
			int			parent = search->path[search->path_length - 1];

			if (search->lowest[node] < search->lowest[parent])
				search->lowest[parent] = search->lowest[node];
		}
	}
}

/* Whether incident a is the likelier root of the two. */
static bool
is_likelier(const Graph *graph, int a, int b)
{
	const SbaActiveIncident *x = &graph->incidents[a];
	const SbaActiveIncident *y = &graph->incidents[b];

	if (b == NONE || x->first_seen_us != y->first_seen_us)
		return b == NONE || x->first_seen_us < y->first_seen_us;
	if (x->severity != y->severity)
		return x->severity > y->severity;
	return a < b;
}

/* The roots of all components, those that are led to first. */
static void
hand_up_roots(const Graph *graph, const Components *components, SbaSuspicion *suspicions)
{
	int			component;
	int			i;

	for (component = 0; component < components->n; component++)
	{
		const int  *member = components->member + components->first_member[component];
		int			n_members = components->first_member[component + 1] - components->first_member[component];
		int			first = NONE;
		int			behind = NONE;

		for (i = 0; i < n_members; i++)
		{
			size_t		e;

			if (is_likelier(graph, member[i], first))
				first = member[i];
			for (e = graph->first_edge[member[i]]; e < graph->first_edge[member[i] + 1]; e++)
				if (components->of[graph->target[e]] != component &&
					is_likelier(graph, suspicions[graph->target[e]].root, behind))
					behind = suspicions[graph->target[e]].root;
		}
		for (i = 0; i < n_members; i++)
			suspicions[member[i]].root = behind != NONE ? behind : first;
	}
}

/*
 * From the roots against the edges.  What leads to a root through an incident
 * leads to that incident's root too, so a shortest way never leaves the
 * incidents that have the root in common.
 */
static bool
measure_ways(const Graph *graph, SbaSuspicion *suspicions)
{
	size_t		n_edges = graph->first_edge[graph->n];
	size_t	   *first = calloc((size_t) graph->n + 2, sizeof(size_t));
	int		   *source = malloc((n_edges + 1) * sizeof(int));
	int		   *queue = malloc(((size_t) graph->n + 1) * sizeof(int));
	bool		enough = first != NULL && source != NULL && queue != NULL;
	int			n_queued = 0;
	int			node;
	int			i;
	size_t		e;

	if (enough)
	{
		/* count one place further on, so that filling in moves it there */
		for (e = 0; e < n_edges; e++)
			first[graph->target[e] + 2]++;
		for (node = 0; node < graph->n; node++)
			first[node + 2] += first[node + 1];
		for (node = 0; node < graph->n; node++)
		{
			for (e = graph->first_edge[node]; e < graph->first_edge[node + 1]; e++)
				source[first[graph->target[e] + 1]++] = node;
			suspicions[node].next = NONE;
		}
		for (node = 0; node < graph->n; node++)
		{
			if (suspicions[node].root != node)
				continue;
			suspicions[node].next = node;
			suspicions[node].distance = 0;
			queue[n_queued++] = node;
		}
		for (i = 0; i < n_queued; i++)
		{
			for (e = first[queue[i]]; e < first[queue[i] + 1]; e++)
			{
				if (suspicions[source[e]].next != NONE ||
					suspicions[source[e]].root != suspicions[queue[i]].root)
					continue;
				suspicions[source[e]].next = queue[i];
				suspicions[source[e]].distance = suspicions[queue[i]].distance + 1;
				queue[n_queued++] = source[e];
			}
		}
	}
	free(first);
	free(source);
	free(queue);
	return enough;
}

SbaStatus
sba_find_root_causes(const SbaActiveIncident *incidents, int n_incidents,
					 const SbaDependency *dependencies, int n_dependencies,
					 SbaSuspicion *suspicions, SbaError *error)
{
	size_t		n = (size_t) n_incidents + 1;
	Graph		graph = {incidents, n_incidents, NULL, NULL};
	int		   *memory = malloc(7 * n * sizeof(int));
	size_t	   *edge = malloc(n * sizeof(size_t));
	bool		enough = memory != NULL && edge != NULL && build_graph(&graph, dependencies, n_dependencies);

	if (enough)
	{
		Components	components = {0, memory, memory + n, memory + 2 * n};
		Search		search = {0, memory + 3 * n, memory + 4 * n, edge, memory + 5 * n, 0, memory + 6 * n, 0};
		int			node;

		components.first_member[0] = 0;
		for (node = 0; node < n_incidents; node++)
			components.of[node] = search.number[node] = NONE;
		for (node = 0; node < n_incidents; node++)
			if (search.number[node] == NONE)
				search_from(&graph, &components, &search, node);
		hand_up_roots(&graph, &components, suspicions);
		enough = measure_ways(&graph, suspicions);
	}
	free(memory);
	free(edge);
	free(graph.first_edge);
	free(graph.target);
	return enough ? SBA_OK : sba_fail(error, SBA_OUT_OF_MEMORY, "out of memory");
}
