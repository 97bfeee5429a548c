// Sim plays teams of developers against a pool of accounts in virtual time and
// compares the rules that choose the account: the pool's own policies through the
// production code of package pool, and yardsticks of its own.
//
//	go run ./bench/sim               all scenarios and rules, as a Markdown table
//	go run ./bench/sim -v -only five each scenario whose name contains "five"
//	go run ./bench/sim -ablation     balanced without each of its parts
//	go run ./bench/sim -unseen 30    scenarios drawn at random
//
// The world is a model: what an account serves, refuses and tells is drawn from a
// seed. The demand, with every draw of every turn, is made before a run, so that
// all rules meet the same work. A run uses one goroutine, and the same seed gives
// the same figures to the last bit.
//
// # The rules
//
// The names of the pool's policies are rules. original is the rule of the proxy
// that shunt follows. round_robin_by_turn knows no sessions. free_switching is
// balanced in a world where moving is free.
//
// # The model
//
// The figures of the world are in the files that use them: plans in account.go,
// people and their sessions in demand.go and profile.go, tokens and times in
// turn.go, troubles in episode.go and world.go, what the handler and the client do
// in exchange.go. What decides most:
//
//   - A request is charged, and its prompt cached, when it is admitted: no window
//     serves more than one request beyond its capacity. The cache lives from the head
//     of the answer, which is when the pool is told.
//   - The ideal cost of a turn is that of one account which holds every cache, asked
//     without delay. A cache that is cold by then costs anew there too.
//   - Weekly windows that already run at the start have nothing used yet.
//   - Load counts what somebody outside uses as if it were there for the pool.
//   - A turn is waited for by its own patience from when it is first sent. Then the
//     session is given up; sub-agents that are given up let their parent go on.
//
// The bound (bound.go) is over what any rule can serve, but for delays: a turn that
// comes late because the one before did may move further than the bound lets it.
package main
