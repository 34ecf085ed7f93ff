-- The isolation forest for anyone's table.  Part one is what
-- docs/isolation-forest.md shows, statement by statement.
\set VERBOSITY default

-- docs/isolation-forest.md: begin
CREATE TABLE payments (
    id bigint PRIMARY KEY,
    customer int NOT NULL,
    amount float8 NOT NULL,
    hour float8 NOT NULL,
    items int NOT NULL,
    distance_km float8);

-- twenty thousand payments that nobody would look at twice ...
SELECT setseed(0.5);
INSERT INTO payments
SELECT i, i % 500,
       10 + 10 * (random() + random() + random() + random()),
       8 + 3 * (random() + random() + random() + random()),
       1 + floor(3 * (random() + random())),
       CASE WHEN i % 50 > 0 THEN 10 * (random() + random() + random()) END
FROM generate_series(1, 20000) AS i;

-- ... and three that one should
INSERT INTO payments VALUES
    (20001, 17, 190, 3.25, 9, 4),
    (20002, 17, 980, 23.5, 1, 120),
    (20003, 99, 420, 2.5, 60, 2900);

CREATE TABLE forests (name text PRIMARY KEY, forest bytea NOT NULL);
ALTER TABLE forests ALTER COLUMN forest SET STORAGE EXTERNAL;

INSERT INTO forests
SELECT 'payments', isolation_forest(ARRAY[amount, hour, items, distance_km])
FROM payments;

SELECT p.id, round(s.score::numeric, 3) AS score,
       (SELECT array_agg(round(c::numeric, 2)) FROM unnest(
           isolation_forest_contributions(f.forest, s.point)) AS c) AS contributions
FROM payments AS p,
     forests AS f,
     LATERAL (SELECT ARRAY[p.amount, p.hour, p.items, p.distance_km] AS point) AS x,
     LATERAL (SELECT x.point, isolation_forest_score(f.forest, x.point) AS score) AS s
WHERE f.name = 'payments'
ORDER BY s.score DESC, p.id
LIMIT 10;

SELECT jsonb_pretty(isolation_forest_info(forest) - 'feature') AS info
FROM forests WHERE name = 'payments';

SELECT isolation_forest_scores(forest, ARRAY[[35, 3.25, 2, 4], [35, 12, 2, 4]])
FROM forests WHERE name = 'payments';

SELECT t.tree, t.node, t.feature, round(t.threshold::numeric, 2) AS threshold, t.rows, t.depth,
       t.left_node, t.right_node, round(t.path_length::numeric, 2) AS path_length
FROM forests AS f, isolation_forest_trees(f.forest) AS t
WHERE f.name = 'payments' AND t.tree = 1 AND t.depth < 3
ORDER BY t.node;

-- a forest for each customer, and each payment judged by its customer's
CREATE TABLE customer_forests AS
SELECT customer, isolation_forest(ARRAY[amount, hour, items, distance_km], 100, 32, 42) AS forest
FROM payments GROUP BY customer;

SELECT p.id, p.customer
FROM payments AS p JOIN customer_forests AS f USING (customer)
ORDER BY isolation_forest_score(f.forest, ARRAY[p.amount, p.hour, p.items, p.distance_km]) DESC
LIMIT 3;
-- docs/isolation-forest.md: end

-- the same rows in the same order, the same forest; another seed another one
SELECT isolation_forest(ARRAY[amount, hour] ORDER BY id) = isolation_forest(ARRAY[amount, hour] ORDER BY id) AS same,
       isolation_forest(ARRAY[amount, hour] ORDER BY id) = isolation_forest(ARRAY[amount, hour], 100, 256, 0 ORDER BY id) AS defaults,
       isolation_forest(ARRAY[amount, hour], 100, NULL, NULL ORDER BY id) = isolation_forest(ARRAY[amount, hour], 100 ORDER BY id) AS null_is_default,
       isolation_forest(ARRAY[amount, hour], 100, 256, 1 ORDER BY id) = isolation_forest(ARRAY[amount, hour], 100, 256 ORDER BY id) AS other_seed
FROM payments;

-- more rows than the reservoir keeps: still a sample of all of them
SELECT isolation_forest_score(f.forest, '{500,3}') < 0.5 AS usual, isolation_forest_score(f.forest, '{-5000,30}') > 0.6 AS strange,
       f.info ->> 'trees' AS trees, f.info ->> 'sample_size' AS sample_size,
       abs((f.info #>> '{feature,0,centre}')::float8 - 500) < 50 AS centre
FROM (SELECT forest, isolation_forest_info(forest) AS info
      FROM (SELECT isolation_forest(ARRAY[(i % 1001 + i % 997) / 2.0, i % 7], 50, 64, 3) AS forest
            FROM generate_series(1, 100000) AS i) AS a) AS f;

-- no rows, null points, missing values
SELECT isolation_forest(ARRAY[1.0]) IS NULL AS none FROM payments WHERE false;
SELECT isolation_forest(NULL) IS NULL AS only_nulls FROM payments WHERE id < 5;
SELECT isolation_forest(CASE WHEN id % 2 = 0 THEN ARRAY[amount, hour] END ORDER BY id)
     = isolation_forest(ARRAY[amount, hour] ORDER BY id) FILTER (WHERE id % 2 = 0) AS null_points_are_skipped
FROM payments;
SELECT isolation_forest(ARRAY[amount, distance_km] ORDER BY id)
     = isolation_forest(ARRAY[amount, coalesce(distance_km, 'NaN')] ORDER BY id) AS null_is_missing
FROM payments;
SELECT isolation_forest_score(forest, '{35,12,NULL,4}') = isolation_forest_score(forest, '{35,12,NaN,4}') AS null_is_missing,
       isolation_forest_score(forest, '{35,Infinity,2,4}') > 0.5 AS infinite,
       isolation_forest_scores(forest, '{{35,12,NULL,4},{NULL,NULL,NULL,NULL},{35,3.25,2,4}}')
       = ARRAY[isolation_forest_score(forest, '{35,12,NULL,4}'), isolation_forest_score(forest, '{NULL,NULL,NULL,NULL}'),
               isolation_forest_score(forest, '{35,3.25,2,4}')] AS many_at_once,
       isolation_forest_score(NULL, '{1}') IS NULL AS no_forest, isolation_forest_score(forest, NULL) IS NULL AS no_point,
       isolation_forest_scores(forest, '{}') AS no_points
FROM forests;
SELECT isolation_forest_score(isolation_forest(ARRAY[1.0, 2.0]), '{7,7}') AS one_row FROM payments WHERE id = 1;
SELECT isolation_forest_score(isolation_forest(ARRAY[3.0]), '{7}') AS equal_rows FROM payments;

-- many at once are what they are one by one, in each form
SELECT f.form, count(*) AS points, bool_and(s.score = isolation_forest_score(f.forest, s.point)) AS same
FROM (SELECT 'heap' AS form, isolation_forest(ARRAY[amount, distance_km]) AS forest FROM payments
      UNION ALL SELECT 'linked', isolation_forest(ARRAY[amount, distance_km], 20, 2000) FROM payments
      UNION ALL SELECT 'table', isolation_forest(ARRAY[amount]) FROM payments) AS f,
    LATERAL (SELECT array_agg(CASE WHEN f.form = 'table' THEN ARRAY[amount] ELSE ARRAY[amount, distance_km] END ORDER BY id) AS points
             FROM payments) AS p,
    LATERAL (SELECT x.score, CASE WHEN f.form = 'table' THEN ARRAY[p.points[x.i][1]] ELSE ARRAY[p.points[x.i][1], p.points[x.i][2]] END AS point
             FROM unnest(isolation_forest_scores(f.forest, p.points)) WITH ORDINALITY AS x(score, i)
             WHERE x.i % 10 = 0 OR x.i > 20000) AS s
GROUP BY f.form, isolation_forest_info(f.forest) ->> 'form' HAVING isolation_forest_info(f.forest) ->> 'form' = f.form
ORDER BY f.form;

-- walking the trees that isolation_forest_trees() shows gives the same score
WITH RECURSIVE f AS MATERIALIZED (
    SELECT 'heap' AS form, isolation_forest(ARRAY[amount, hour, distance_km], 30, 256, 5) AS forest FROM payments
    UNION ALL SELECT 'linked', isolation_forest(ARRAY[amount, hour, distance_km], 10, 600, 5) FROM payments
), tree AS MATERIALIZED (
    SELECT f.form, t.* FROM f, isolation_forest_trees(f.forest) AS t
), fill AS MATERIALIZED (
    SELECT f.form, array_agg((feature ->> 'fill')::float8 ORDER BY i) AS "values"
    FROM f, jsonb_array_elements(isolation_forest_info(f.forest) -> 'feature') WITH ORDINALITY AS x(feature, i) GROUP BY f.form
), walk AS (
    SELECT p.id, ARRAY[p.amount, p.hour, p.distance_km] AS point, t.* FROM payments AS p, tree AS t
    WHERE (p.id % 4000 = 50 OR p.id > 20000) AND t.node = 1
    UNION ALL
    SELECT w.id, w.point, t.*
    FROM walk AS w JOIN fill USING (form)
        JOIN tree AS t ON t.form = w.form AND t.tree = w.tree
            AND t.node = CASE WHEN coalesce(w.point[w.feature], fill.values[w.feature]) < w.threshold THEN w.left_node ELSE w.right_node END
)
SELECT w.form, count(*) AS points, bool_and(abs(w.score - isolation_forest_score(f.forest, w.point)) < 1e-7) AS same
FROM f JOIN (
    SELECT form, id, point, count(*) AS trees,
           power(2, -avg(path_length) / (SELECT 2 * sum(1 / i::float8) - 2 * (1 - 1.0 / (count(*) + 1))
                                         FROM generate_series(1, CASE form WHEN 'heap' THEN 255 ELSE 599 END) AS i)) AS score
    FROM walk WHERE path_length IS NOT NULL GROUP BY form, id, point) AS w USING (form)
WHERE w.trees = (isolation_forest_info(f.forest) ->> 'trees')::int
GROUP BY w.form ORDER BY w.form;

-- trees are whole: leaves hold the sample, splits the sum of what is below
SELECT count(*) AS splits, bool_and(t.rows = l.rows + r.rows AND l.depth = t.depth + 1 AND r.depth = t.depth + 1
                                    AND l.rows > 0 AND r.rows > 0 AND t.feature BETWEEN 1 AND 4) AS whole
FROM forests AS f, isolation_forest_trees(f.forest) AS t
    JOIN isolation_forest_trees((SELECT forest FROM forests)) AS l ON l.tree = t.tree AND l.node = t.left_node
    JOIN isolation_forest_trees((SELECT forest FROM forests)) AS r ON r.tree = t.tree AND r.node = t.right_node;
SELECT count(DISTINCT tree) AS trees, bool_and(rows = 256) AS "all" FROM forests, isolation_forest_trees(forest) WHERE node = 1;

-- a forest of one feature shows its steps, and they say what the score says
SELECT count(*) > 1000 AS many_steps,
       bool_and(abs(isolation_forest_score(f.forest, ARRAY[s.threshold])
                    - power(2, -s.path_length / (SELECT 2 * sum(1 / i::float8) - 2 * 255 / 256.0 FROM generate_series(1, 255) AS i))) < 1e-7) AS same,
       bool_and(s.tree IS NULL AND s.rows IS NULL AND s.feature = 1) AS of_all_trees
FROM (SELECT isolation_forest(ARRAY[amount]) AS forest FROM payments) AS f, isolation_forest_trees(f.forest) AS s;

-- contributions add up to 1, and there are none for what is usual
SELECT id, round((SELECT sum(c) FROM unnest(isolation_forest_contributions(forest, point)) AS c)::numeric, 9) AS sum,
       isolation_forest_contributions(forest, point) IS NULL AS none, isolation_forest_score(forest, point) > 0.5 AS strange
FROM forests, (VALUES (1, '{30,14,4,15}'::float8[]), (2, '{30,3,4,15}'), (3, '{300,3,70,3000}')) AS p(id, point)
ORDER BY id;

-- what is wrong with points and parameters
SELECT isolation_forest(CASE WHEN id = 3 THEN ARRAY[1.0] ELSE ARRAY[amount, hour] END) FROM payments WHERE id < 5;
SELECT isolation_forest('{}'::float8[]) FROM payments;
SELECT isolation_forest(ARRAY[[1, 2], [3, 4]]) FROM payments;
SELECT isolation_forest(array_fill(1.0::float8, ARRAY[257])) FROM payments;
SELECT isolation_forest(ARRAY[amount], 0) FROM payments;
SELECT isolation_forest(ARRAY[amount], 1001) FROM payments;
SELECT isolation_forest(ARRAY[amount], 10, 1) FROM payments;
SELECT isolation_forest(ARRAY[amount], 10, 65537) FROM payments;
SELECT isolation_forest(ARRAY[amount], 10, -1) FROM payments;
SELECT isolation_forest(ARRAY[amount], 1000, 65536) FROM payments;
SELECT isolation_forest(array_fill(amount, ARRAY[200]), 10, 65536) FROM payments;
SELECT isolation_forest(ARRAY[amount], 10 + (id % 2)::int) FROM payments;
SELECT isolation_forest(ARRAY[amount], 10, 20, id) FROM payments;
SELECT isolation_forest_score(forest, '{1,2,3}') FROM forests;
SELECT isolation_forest_score(forest, '{}') FROM forests;
SELECT isolation_forest_score(forest, '{{1,2,3,4}}') FROM forests;
SELECT isolation_forest_scores(forest, '{1,2,3,4}') FROM forests;
SELECT isolation_forest_scores(forest, '{{1,2,3}}') FROM forests;
SELECT isolation_forest_contributions(forest, '{1,2,3,4,5}') FROM forests;

-- damaged forests
SELECT isolation_forest_score('', '{1}');
SELECT isolation_forest_score('not a forest', '{1}');
SELECT isolation_forest_info(substr(forest, 1, 1000)) FROM forests;
SELECT count(*) FROM forests, isolation_forest_trees(set_byte(forest, 100, get_byte(forest, 100) # 1));

-- What each function makes of bytes; anything but the right answer or
-- data_corrupted is shown.
CREATE FUNCTION outcome(bytes bytea, point float8[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answers text[] := '{}';
    statement text;
    answer text;
BEGIN
    FOREACH statement IN ARRAY ARRAY[
        'SELECT isolation_forest_score($1, $2)', 'SELECT isolation_forest_scores($1, ARRAY[$2, $2])',
        'SELECT isolation_forest_contributions($1, $2)', 'SELECT isolation_forest_info($1)',
        'SELECT count(*) FROM isolation_forest_trees($1)']
    LOOP
        BEGIN
            EXECUTE statement INTO answer USING bytes, point;
            answers := answers || 'answered'::text;
        EXCEPTION
            WHEN data_corrupted THEN answers := answers || 'corrupted'::text;
            WHEN OTHERS THEN answers := answers || SQLSTATE::text;
        END;
    END LOOP;
    RETURN (SELECT string_agg(DISTINCT a, ',' ORDER BY a) FROM unnest(answers) AS a);
END
$$;

CREATE TABLE victims AS
SELECT 'heap' AS form, isolation_forest(ARRAY[amount, hour], 3, 64) AS forest, '{1,2}'::float8[] AS point FROM payments
UNION ALL SELECT 'linked', isolation_forest(ARRAY[amount, hour], 1, 300), '{1,2}' FROM payments WHERE id < 500
UNION ALL SELECT 'table', isolation_forest(ARRAY[amount], 3, 64), '{1}' FROM payments;

SELECT form, outcome(forest, point) FROM victims ORDER BY form;
SELECT v.form, 'a bit' AS flipped, outcome(set_byte(v.forest, i, get_byte(v.forest, i) # (1 << (i % 8))), v.point), count(*) > 100 AS many
FROM victims AS v, generate_series(0, length(v.forest) - 1) AS i
WHERE i < 200 OR i % 31 = 0 OR i > length(v.forest) - 20
GROUP BY 1, 2, 3 ORDER BY 1, 3;
SELECT v.form, outcome(substr(v.forest, 1, n), v.point), count(*) > 10 AS many
FROM victims AS v, generate_series(0, length(v.forest) - 1) AS n
WHERE n < 90 OR n % 101 = 0
GROUP BY 1, 2 ORDER BY 1, 2;
SELECT v.form, outcome(v.forest || '\x00'::bytea, v.point) AS longer, outcome(v.forest || v.forest, v.point) AS twice FROM victims AS v ORDER BY 1;
SELECT outcome(decode(string_agg(md5(i::text), ''), 'hex'), '{1}') AS noise,
       outcome(decode('53424946' || string_agg(md5(i::text), ''), 'hex'), '{1}') AS noise_with_magic
FROM generate_series(1, 300) AS i;

-- What was checked is kept, and never taken for something else: forests that
-- change from row to row, as constants, variables and from tables, toasted or not.
CREATE TABLE various (id int PRIMARY KEY, forest bytea, point float8[]);
INSERT INTO various
SELECT i, (SELECT isolation_forest(ARRAY[amount, hour], 1 + i % 30, 8 * (1 + i % 3), i) FROM payments WHERE id <= 500 + i), ARRAY[i, i % 24]
FROM generate_series(1, 60) AS i;
CREATE FUNCTION score_apart(bytea, float8[]) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
    score float8;
BEGIN
    -- a constant of its own each time
    EXECUTE format('SELECT isolation_forest_score(%L, $1)', $1) INTO score USING $2;
    RETURN score;
END
$$;
CREATE FUNCTION score_variable(bytea, float8[]) RETURNS float8 LANGUAGE plpgsql AS $$
BEGIN
    RETURN isolation_forest_score($1, $2);
END
$$;
SELECT count(*) AS pairs, count(DISTINCT isolation_forest_score(v.forest, w.point)) > 100 AS differ,
       bool_and(isolation_forest_score(v.forest, w.point) = score_apart(v.forest, w.point)) AS column,
       bool_and(score_variable(v.forest, w.point) = score_apart(v.forest, w.point)) AS variable,
       bool_and(isolation_forest_score(v.forest || '\x'::bytea, w.point) = score_apart(v.forest, w.point)) AS in_memory
FROM various AS v, various AS w WHERE w.id % 20 = 3;

DO $$
DECLARE
    forest bytea;
    before float8;
    score float8;
    corrupted int := 0;
BEGIN
    -- the same variable, the same length, one byte apart
    SELECT v.forest INTO forest FROM various AS v WHERE id = 29;
    forest := forest || '\x'::bytea;
    FOR i IN 1 .. 6 LOOP
        BEGIN
            score := isolation_forest_score(forest, '{20,10}');
            ASSERT score = coalesce(before, score), 'a score has changed';
            before := score;
        EXCEPTION
            WHEN data_corrupted THEN
                corrupted := corrupted + 1;
        END;
        forest := set_byte(forest, 200, get_byte(forest, 200) # 255);
    END LOOP;
    RAISE NOTICE '% of 6 were damaged', corrupted;
END
$$;

-- an update in the same transaction is seen
BEGIN;
SELECT outcome(forest, '{1,2}') FROM various WHERE id = 1;
UPDATE various SET forest = (SELECT forest FROM various WHERE id = 2) WHERE id = 1;
SELECT count(DISTINCT isolation_forest_score(forest, '{20,10}')) AS scores FROM various WHERE id IN (1, 2);
ROLLBACK;
SELECT count(DISTINCT isolation_forest_score(forest, '{20,10}')) AS scores FROM various WHERE id IN (1, 2);

-- anybody may use it
CREATE ROLE smartbox_test_stranger;
GRANT SELECT ON payments TO smartbox_test_stranger;
SET ROLE smartbox_test_stranger;
SELECT isolation_forest_score(isolation_forest(ARRAY[amount, hour]), '{1,2}') > 0 AS allowed FROM payments;
RESET ROLE;
DROP OWNED BY smartbox_test_stranger;
DROP ROLE smartbox_test_stranger;

-- a fit that takes many seconds ends when it is cancelled, not when it is done
CREATE SEQUENCE fitted;
SET statement_timeout = '1s';
SELECT nextval('fitted'), length(isolation_forest(array_fill(i::float8, ARRAY[128]), 128, 65536))
FROM generate_series(1, 65536) AS i;
RESET statement_timeout;
SELECT is_called AS was_fitted FROM fitted;
