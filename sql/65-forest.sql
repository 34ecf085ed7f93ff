-- The isolation forest for anyone's table: an aggregate that fits, functions
-- that judge and look inside.  They know nothing of services.

-- The state of the aggregate is in the C code's hands: these cannot be called
-- but by the aggregate.
CREATE FUNCTION smartbox.isolation_forest_add(state internal, point double precision[]) RETURNS internal
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'sba_forest_aggregate_add';

CREATE FUNCTION smartbox.isolation_forest_add(state internal, point double precision[], trees integer) RETURNS internal
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'sba_forest_aggregate_add';

CREATE FUNCTION smartbox.isolation_forest_add(state internal, point double precision[], trees integer, sample_size integer) RETURNS internal
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'sba_forest_aggregate_add';

CREATE FUNCTION smartbox.isolation_forest_add(state internal, point double precision[], trees integer, sample_size integer, seed bigint) RETURNS internal
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'sba_forest_aggregate_add';

CREATE FUNCTION smartbox.isolation_forest_combine(state internal, other internal) RETURNS internal
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'sba_forest_aggregate_combine';

CREATE FUNCTION smartbox.isolation_forest_serialize(state internal) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'sba_forest_aggregate_serialize';

CREATE FUNCTION smartbox.isolation_forest_deserialize(serialized bytea, state internal) RETURNS internal
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'sba_forest_aggregate_deserialize';

CREATE FUNCTION smartbox.isolation_forest_finish(state internal) RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL SAFE COST 1000000
AS 'MODULE_PATHNAME', 'sba_forest_aggregate_finish';

COMMENT ON FUNCTION smartbox.isolation_forest_add(internal, double precision[]) IS
    'part of the aggregate isolation_forest: sees one more point';
COMMENT ON FUNCTION smartbox.isolation_forest_add(internal, double precision[], integer) IS
    'part of the aggregate isolation_forest: sees one more point';
COMMENT ON FUNCTION smartbox.isolation_forest_add(internal, double precision[], integer, integer) IS
    'part of the aggregate isolation_forest: sees one more point';
COMMENT ON FUNCTION smartbox.isolation_forest_add(internal, double precision[], integer, integer, bigint) IS
    'part of the aggregate isolation_forest: sees one more point';
COMMENT ON FUNCTION smartbox.isolation_forest_combine(internal, internal) IS
    'part of the aggregate isolation_forest: merges what two parallel workers have seen';
COMMENT ON FUNCTION smartbox.isolation_forest_serialize(internal) IS
    'part of the aggregate isolation_forest: what a parallel worker hands over';
COMMENT ON FUNCTION smartbox.isolation_forest_deserialize(bytea, internal) IS
    'part of the aggregate isolation_forest: takes over what a parallel worker has seen';
COMMENT ON FUNCTION smartbox.isolation_forest_finish(internal) IS
    'part of the aggregate isolation_forest: fits the forest';

-- The state of the usual forest is 25,600 points.
CREATE AGGREGATE @extschema@.isolation_forest(point double precision[]) (
    SFUNC = smartbox.isolation_forest_add,
    STYPE = internal,
    SSPACE = 1000000,
    FINALFUNC = smartbox.isolation_forest_finish,
    COMBINEFUNC = smartbox.isolation_forest_combine,
    SERIALFUNC = smartbox.isolation_forest_serialize,
    DESERIALFUNC = smartbox.isolation_forest_deserialize,
    PARALLEL = SAFE
);

CREATE AGGREGATE @extschema@.isolation_forest(point double precision[], trees integer) (
    SFUNC = smartbox.isolation_forest_add,
    STYPE = internal,
    SSPACE = 1000000,
    FINALFUNC = smartbox.isolation_forest_finish,
    COMBINEFUNC = smartbox.isolation_forest_combine,
    SERIALFUNC = smartbox.isolation_forest_serialize,
    DESERIALFUNC = smartbox.isolation_forest_deserialize,
    PARALLEL = SAFE
);

CREATE AGGREGATE @extschema@.isolation_forest(point double precision[], trees integer, sample_size integer) (
    SFUNC = smartbox.isolation_forest_add,
    STYPE = internal,
    SSPACE = 1000000,
    FINALFUNC = smartbox.isolation_forest_finish,
    COMBINEFUNC = smartbox.isolation_forest_combine,
    SERIALFUNC = smartbox.isolation_forest_serialize,
    DESERIALFUNC = smartbox.isolation_forest_deserialize,
    PARALLEL = SAFE
);

CREATE AGGREGATE @extschema@.isolation_forest(point double precision[], trees integer, sample_size integer, seed bigint) (
    SFUNC = smartbox.isolation_forest_add,
    STYPE = internal,
    SSPACE = 1000000,
    FINALFUNC = smartbox.isolation_forest_finish,
    COMBINEFUNC = smartbox.isolation_forest_combine,
    SERIALFUNC = smartbox.isolation_forest_serialize,
    DESERIALFUNC = smartbox.isolation_forest_deserialize,
    PARALLEL = SAFE
);

COMMENT ON AGGREGATE @extschema@.isolation_forest(double precision[]) IS
    'an isolation forest of 100 trees of 256 points each, seed 0; NULL if there is no point';
COMMENT ON AGGREGATE @extschema@.isolation_forest(double precision[], integer) IS
    'an isolation forest of so many trees (1 to 1000), of 256 points each, seed 0';
COMMENT ON AGGREGATE @extschema@.isolation_forest(double precision[], integer, integer) IS
    'an isolation forest of so many trees (1 to 1000) of so many points each (2 to 65536), seed 0';
COMMENT ON AGGREGATE @extschema@.isolation_forest(double precision[], integer, integer, bigint) IS
    'an isolation forest; a NULL parameter is the default: 100 trees of 256 points, seed 0';

CREATE FUNCTION @extschema@.isolation_forest_score(forest bytea, point double precision[]) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100
AS 'MODULE_PATHNAME', 'sba_isolation_forest_score';

COMMENT ON FUNCTION @extschema@.isolation_forest_score(bytea, double precision[]) IS
    'how strange a point is, 0 to 1; what lies among the others has about 0.5 or less';

CREATE FUNCTION @extschema@.isolation_forest_scores(forest bytea, points double precision[]) RETURNS double precision[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10000
AS 'MODULE_PATHNAME', 'sba_isolation_forest_scores';

COMMENT ON FUNCTION @extschema@.isolation_forest_scores(bytea, double precision[]) IS
    'isolation_forest_score() of many points, given as a two-dimensional array of one row for each point';

CREATE FUNCTION @extschema@.isolation_forest_contributions(forest bytea, point double precision[]) RETURNS double precision[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 2000
AS 'MODULE_PATHNAME', 'sba_isolation_forest_contributions';

COMMENT ON FUNCTION @extschema@.isolation_forest_contributions(bytea, double precision[]) IS
    'the share of each feature in what makes this point strange, 1 in all; NULL if nothing does (score at most 0.5)';

CREATE FUNCTION @extschema@.isolation_forest_info(forest bytea) RETURNS jsonb
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000
AS 'MODULE_PATHNAME', 'sba_isolation_forest_info';

COMMENT ON FUNCTION @extschema@.isolation_forest_info(bytea) IS
    'what a forest is: its parameters, size and form, and the centre, scale and fill of each feature';

CREATE FUNCTION @extschema@.isolation_forest_trees(
    forest bytea,
    OUT tree integer, OUT node integer, OUT feature integer, OUT threshold double precision,
    OUT "rows" integer, OUT depth integer, OUT left_node integer, OUT right_node integer,
    OUT path_length double precision)
RETURNS SETOF record
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000000 ROWS 20000
AS 'MODULE_PATHNAME', 'sba_isolation_forest_trees';

COMMENT ON FUNCTION @extschema@.isolation_forest_trees(bytea) IS
    'the nodes of a forest''s trees: a value of the feature below the threshold goes to left_node; leaves have a path_length instead.  A forest of one feature has no trees but steps: path_length from threshold on';
