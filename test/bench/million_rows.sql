-- A million rows of five features, and a forest of them.
SELECT setseed(0.5);
CREATE TABLE measurement AS
SELECT random() + random() AS a, random() * random() AS b, random() AS c, random() + random() + random() AS d, random() AS e
FROM generate_series(1, 1000000);
VACUUM ANALYZE measurement;
CREATE TABLE forest AS SELECT isolation_forest(ARRAY[a, b, c, d, e]) AS forest FROM measurement;
ANALYZE forest;
