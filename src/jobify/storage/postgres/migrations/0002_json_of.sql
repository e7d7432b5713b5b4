-- A block that catches errors is a subtransaction, and a parallel worker cannot begin one: a query by metadata failed
-- where the planner chose several workers.
ALTER FUNCTION @json_of(text) PARALLEL UNSAFE;
