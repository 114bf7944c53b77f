/*
 * worker: the program that makes one call to AWS, or to the task's own endpoints, for the keeper, and leaves.
 *
 *     keeper                         worker (argv[0] is IPC_WORKER_NAME)
 *       starts it, sends ipc_call ────► reads CA certificates, enters the sandbox
 *                                       fetches credentials, resolves, connects, sends, reads the answer
 *       reads ipc_answer ◄───────────── one message
 *                                       leaves
 *
 * So that the keeper, which must always reach its end, holds neither TLS nor HTTP, JSON or DNS: whatever an
 * answer from the network does to this process is a failed attempt there, like any other.
 *
 * Each worker fetches the credentials anew. That costs a request to an endpoint on the same host, about a
 * millisecond, for a handful of calls in a task's life (some 40 when ECS is down for the whole of
 * FUMIDAI_END_DEADLINE; the endpoint allows 40 a second). In return the keys are in no process that lives
 * long but the relay, which needs them to sign its channels.
 */
#ifndef FUMIDAI_WORKER_WORKER_H
#define FUMIDAI_WORKER_WORKER_H

/* Returns the exit status. */
int worker_run(char *const *env);

#endif
