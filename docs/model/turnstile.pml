/*
 * Turnstile's protocol: what docs/design.md calls a turn, under everything that can go
 * wrong with it. scripts/model.sh runs it. README.md beside this file says what is
 * modelled, what is not, and which Go code each part stands for.
 *
 * One cell of the file is one frame, so an offset is a number of turns and all frames
 * have the same length: the worst case for checks that compare sizes. Head's version is
 * the turn in it, because nothing but a commit writes head. There are no clocks: an agent
 * that is paused is one that is not scheduled.
 *
 * Each step is one atomic block; agents and the world alternate between steps only. What
 * happens under the flock is several steps all the same, for a crash can come between.
 * -DNO_… leaves a guard out, -DEVICT, -DCRASH … let a kind of fault in, and
 * -DWITNESS=W_… makes reaching a place an error, to see that it is reached.
 */
#ifndef AGENTS
#define AGENTS 2
#endif
#ifndef RECORDS
#define RECORDS 2       /* each agent's; one a turn */
#endif
#ifndef FAULTS
#define FAULTS 2        /* at most so many in a run, the rollback not counted */
#endif

#define CELLS 8         /* more than any run writes; pan checks the bounds */
#define TOKENS 14       /* a place is a bit of a short, the first is bit 1 */
#define TORN 255        /* for the record of a frame that is there in part */
#define NONE 0
#define BIT(token) (1 << (token))

#ifdef WITNESS
#define W_quarantined 1         /* a dead holder's frame was put aside */
#define W_torn 2                /* … one that was there in part */
#define W_fenced 3              /* a late holder met a higher token in the fence */
#define W_stale 4               /* head was read from a server that lagged behind */
#define W_unknown_committed 5   /* settled: it had been committed */
#define W_unknown_not 6         /* settled: it had not, and never will be */
#define W_unknown_others 7      /* settled: the turn of its number is another agent's */
#define W_late_done 8           /* a request on a connection that was given up committed */
#define W_late_refused 9        /* … and was refused */
#define W_noted_by_newer 10     /* the next holder had noted the receipt already */
#define W_power_frame 11        /* a power loss took an unsynced frame */
#define W_power_fence 12        /* … and what the fence had last */
#define W_refused_cut 13        /* a file that was cut below head was refused */
#define W_all_acknowledged 14   /* every record, without a fault */
#define W_all_faults 15         /* every fault happened, and all agents came to an end */
/* Only after a rollback: */
#define W_refused_receipt 16    /* the receipt is beyond head */
#define W_refused_fence 17      /* the first in the queue has too low a token */
#define W_refused_ack 18        /* a committed frame will not stay, or is gone */
#define W_refused_head 19       /* head names another frame than the file has */
#define W_refused_version 20    /* the place is there, but head is another */
#define REACHED(name) assert(W_##name != WITNESS)
#else
#define REACHED(name) skip
#endif

/* What must never be false, by names that pan's message then says. */
bit committed_is_whole_in_the_file = 1, committed_is_on_disk = 1,
	committed_prefix_is_unchanged = 1, acknowledged_is_committed = 1,
	acknowledged_is_on_disk = 1, acknowledged_prefix_is_unchanged = 1,
	no_record_twice = 1, tokens_rise = 1, head_never_goes_back = 1,
	only_the_newest_admitted_writes = 1, refused_only_for_a_reason = 1, head_is_of_this_file = 1;
#define ALWAYS(name, condition) name = (condition); assert(name)

/* A guard that is left out may merely lead to a refusal that was not called for. With
   -DHARM only those runs count that do damage. */
#ifdef HARM
#define ALSO(name, condition) skip
#else
#define ALSO(name, condition) ALWAYS(name, condition)
#endif

/* ZooKeeper, one atomic object. The queue is a set of tokens; a place's token is its
   creation zxid and orders the queue too. */
byte head_turn, head_token;
byte next_token = 1;
short places[AGENTS];   /* of each agent's session, while that is alive */
short orphans[AGENTS];  /* of its sessions that it is not alive to keep, until they expire */
byte commit_made[AGENTS]; /* the place that the last commit took: found by its GUID */
#if AGENTS == 2
#define QUEUE (places[0] | orphans[0] | places[1] | orphans[1])
#define NOTHING_LATE (late_place[0] == NONE && late_place[1] == NONE)
#else
#define QUEUE (places[0] | orphans[0] | places[1] | orphans[1] | places[2] | orphans[2])
#define NOTHING_LATE (late_place[0] == NONE && late_place[1] == NONE && late_place[2] == NONE)
#endif

/* Commits that are under way on connections that were given up: they may arrive at any
   time, or never. late_place is NONE when there is none. */
byte late_place[AGENTS], late_turn[AGENTS];
bit late_again[AGENTS];
#ifdef NO_SAME_RESEND
bit late_other_id[AGENTS];
#endif

/* The volume. */
byte size, synced;                      /* cells in the file, and those on disk for sure */
byte cell_token[CELLS], cell_record[CELLS];
byte fence_token, fence_turn;           /* the highest admitted; the receipt */
byte fence_by, flock;                   /* who was admitted last, who is inside; plus 1 */

/* The faults, and what the properties have to remember. */
byte faults = FAULTS;
bit killed[AGENTS], gone[AGENTS];
bit rolled_back, was_cut;
byte finished;
byte acknowledged;      /* turns: as far as the file must never change again */
byte admitted;          /* the highest token that was ever admitted */

#ifdef ROLLBACK
bit backed_up;
byte old_turn, old_token, old_next_token;
short old_places[AGENTS], old_orphans[AGENTS];
#endif

#define ME (_pid)
#define OWN(token) (places[ME] & BIT(token))

/* ---------------------------------------------------------------- ZooKeeper's side */

inline forget(agent) { late_place[agent] = NONE; late_turn[agent] = 0; late_again[agent] = false }

inline create(agent, token) {
	assert(next_token <= TOKENS);
	token = next_token;
	next_token++;
	places[agent] = places[agent] | BIT(token)
#ifdef ROLLBACK
	; if
	:: late_place[agent] == token -> forget(agent) /* that one's place had another GUID */
	:: else
	fi
#endif
}

inline delete(agent, token) {
	places[agent] = places[agent] & ~BIT(token);
	orphans[agent] = orphans[agent] & ~BIT(token)
}

/* The place just before token's, NONE when it is the first. */
inline nearest_ahead(token, nearest) {
	nearest = token - 1;
	do
	:: nearest > 0 && !(QUEUE & BIT(nearest)) -> nearest--
	:: else -> break
	od
}

#ifdef NO_PLACE_DELETE
#define PLACE_STANDS(agent, place) true
#else
#define PLACE_STANDS(agent, place) ((places[agent] | orphans[agent]) & BIT(place))
#endif
#ifdef NO_HEAD_VERSION
#define VERSION_IS(turn) true
#else
#define VERSION_IS(turn) (head_turn == (turn))
#endif

/* The one transaction: set head at the version that was read, delete the own place,
   create the next. All of it or nothing. */
inline transact(agent, place, turn, again, done) {
	done = PLACE_STANDS(agent, place) && VERSION_IS(turn);
	if
	:: done ->
		check_commit(place, turn);
		head_turn = turn + 1;
		head_token = place;
		commit_made[agent] = NONE;
		if
		:: again && (orphans[agent] & BIT(place)) -> /* the session is as dead as its agent */
			orphans[agent] = orphans[agent] | BIT(next_token);
			next_token++
		:: again && !(orphans[agent] & BIT(place)) -> create(agent, commit_made[agent])
		:: else
		fi;
#ifndef NO_PLACE_DELETE
		delete(agent, place)
#endif
	:: else -> if
		:: rolled_back && PLACE_STANDS(agent, place) -> REACHED(refused_version)
		:: else
		fi
	fi
}

/* After a rollback head may be wrong until somebody notices; what was acknowledged stays. */
inline check_commit(place, turn) {
	if
	:: !rolled_back ->
		ALWAYS(head_never_goes_back, head_turn == turn);
		ALWAYS(committed_is_whole_in_the_file, size > turn && cell_token[turn] == place && cell_record[turn] != TORN);
		ALWAYS(committed_is_on_disk, synced > turn);
		ALWAYS(tokens_rise, turn == 0 || cell_token[turn - 1] < place);
		check_once(turn)
	:: else
	fi
}

/* The record in this cell is in no cell before. */
inline check_once(turn) {
	j = 0;
	do
	:: j < turn -> ALWAYS(no_record_twice, cell_record[j] != cell_record[turn]); j++
	:: else -> j = 0; break
	od
}

/* ------------------------------------------------------------------ the volume's side */

#ifdef NO_FLOCK
#define LOCK_IS_FREE true
#define LOCK skip
#define UNLOCK skip
#else
#define LOCK_IS_FREE (flock == NONE)
#define LOCK flock = ME + 1
#define UNLOCK flock = NONE
#endif

inline cut(to) {
	do
	:: size > to -> size--; cell_token[size] = NONE; cell_record[size] = NONE
	:: else -> break
	od
}

inline truncate(to) {
	ALWAYS(only_the_newest_admitted_writes, token >= admitted);
	ALWAYS(committed_prefix_is_unchanged, rolled_back || to >= head_turn);
	ALWAYS(acknowledged_prefix_is_unchanged, to >= acknowledged);
	cut(to);
	synced = size /* the truncate is synced before anything else is done */
}

inline append(record) {
	ALWAYS(only_the_newest_admitted_writes, token >= admitted);
	cell_token[size] = token;
	cell_record[size] = record;
	size++
}

/* A session is closed, or will expire: its places are nobody's from now on. */
inline close(agent) {
	orphans[agent] = orphans[agent] | places[agent]; places[agent] = 0;
	if
	:: flock == agent + 1 -> flock = NONE
	:: else
	fi
#ifdef ROLLBACK
	; old_orphans[agent] = old_orphans[agent] | old_places[agent]; old_places[agent] = 0
#endif
}

inline kill(agent) { close(agent); killed[agent] = true }

/* ----------------------------------------------------------------------- an agent */

#define RECORD (ME * RECORDS + taken + 1)
#define MORE (taken + 1 < RECORDS)
/* Is the frame in this cell ours? In the code its sum tells. */
#define OURS(cell) (cell_token[cell] == token && cell_record[cell] == RECORD)

active [AGENTS] proctype Agent() {
	byte taken;     /* records that are done with: acknowledged, or lost in a crash */
	byte token;     /* our place */
	byte ahead;     /* the place just before it */
	byte turn;      /* head as we read it: our frame is for turn+1, and begins at cell turn */
	byte by;        /* … and whose commit that was */
	bit lost;       /* an answer to our commit was lost */
	bit done;
	byte j;

	do
	:: {
	if
	:: taken == RECORDS -> goto Exit
	:: else
	fi;

Join:   /* Place.Join. When the answer is lost the place is found again by its GUID. */
	atomic {
		turn = 0; by = NONE; ahead = NONE; lost = false; done = false;
		create(ME, token);
#ifdef NO_FIND
		if
		:: true
		:: faults > 0 -> faults--; create(ME, token)
		fi
#endif
	}

Wait:   /* Place.wait: list; watch the place just before ours, and our own. */
	atomic {
		if
		:: !OWN(token) -> goto Join
		:: else
		fi;
		d_step { nearest_ahead(token, ahead); skip };
		if
		:: ahead == NONE -> goto Read
		:: else
		fi;
#ifdef STALE
		turn = head_turn; by = head_token /* what a server that lags may still show */
#endif
	}
	atomic {
		!(QUEUE & BIT(ahead)) || !OWN(token);
		if
		:: !OWN(token) -> goto Join
		:: else
		fi;
		/* The event can come from another server than the answer to our next read. */
		if
		:: true -> turn = head_turn; by = head_token
#ifdef STALE
		:: faults > 0 && turn != head_turn -> faults--; REACHED(stale)
#endif
		fi;
#ifndef NO_FRESH_HEAD
		if
		:: by == ahead -> goto Enter    /* Hold.follows: it was our predecessor's commit */
		:: else -> turn = 0; by = NONE; goto Wait
		fi
#else
		goto Enter
#endif
	}

Read:   /* Place.take, after a list that showed nobody before us. */
	atomic {
		turn = head_turn; by = head_token;
#ifndef NO_RECHECK
		if
		:: !OWN(token) -> goto Join
		:: else
		fi
#endif
	}

Enter:  /* File.inTurn, admit and compare: take the flock, look at everything. */
	atomic {
		LOCK_IS_FREE;
		LOCK;
		ahead = NONE;
		if
		:: true
		:: !OWN(token) -> UNLOCK; goto Leave    /* we may know that the turn is lost, or not */
		fi;
#ifndef NO_FENCE
		if
		:: token < fence_token -> UNLOCK; goto Fenced
#ifndef NO_FENCE_OWNER
		:: token == fence_token && fence_by != ME + 1 -> goto Exit  /* a token given twice */
#endif
		:: else
		fi;
#endif
#ifndef NO_RECEIPT_CHECK
		if
		:: fence_turn > turn -> REACHED(refused_receipt); goto Exit
		:: else
		fi;
#endif
#ifndef NO_COMPARE
		if
#ifndef NO_SHORTER
		:: size < turn -> REACHED(refused_cut); goto Exit
#endif
#ifndef NO_ONE_TURN
		:: size > turn + 1 -> goto Exit
#endif
#ifndef NO_TAIL_TOKEN
		:: size == turn + 1 && cell_token[turn] > token && cell_record[turn] != TORN -> UNLOCK; goto Fenced
#endif
		:: else
		fi;
#endif
#ifndef NO_CHECK_LAST
		/* Is the last committed frame the one that head names? */
		if
#ifndef NO_CHECK_NOTED
		:: turn > 0 && cell_token[turn - 1] != by -> REACHED(refused_head); goto Exit
#else
		:: turn > fence_turn && cell_token[turn - 1] != by -> REACHED(refused_head); goto Exit
#endif
		:: else
		fi;
#endif
		ALSO(head_is_of_this_file, turn == 0 || cell_token[turn - 1] == by);
		by = NONE
	}
	/* … close the fence behind us; admission notes a receipt of its own. */
	atomic {
		fence_token = token; fence_turn = turn; fence_by = ME + 1;
		if
		:: token > admitted -> admitted = token
		:: else
		fi
	}
	/* … put a dead holder's frame aside, and cut it off. */
	atomic {
		if
#ifndef NO_COMPARE
		:: size > turn ->
			if
			:: cell_record[size - 1] == TORN -> REACHED(torn)
			:: else -> REACHED(quarantined)
			fi;
			d_step { truncate(turn) }
#endif
		:: else
		fi
	}
	/* … append the frame. A process can be killed in the middle of it. */
	atomic {
		if
		:: true -> append(RECORD)
		:: !OWN(token) -> UNLOCK; goto Leave
#ifdef CRASH
		:: faults > 0 -> faults--; append(TORN); d_step { kill(ME) }
#endif
		fi
	}
	/* … fdatasync, and leave the flock before ZooKeeper is asked for anything. */
	atomic {
#ifndef NO_FDATASYNC
		synced = size;
#endif
		UNLOCK;
#ifdef NO_ACK_ORDER
		goto Receipt
#endif
	}

Send:   /* Hold.Commit, transact. */
	atomic {
		if
		:: true -> d_step { transact(ME, token, turn, MORE, done) };
			if
			:: done -> lost = false; done = false; goto Committed
			:: !done && !lost -> goto Leave
#ifdef NO_DOUBT
			:: !done && lost -> goto Leave
#else
			:: !done && lost -> goto Settle /* the first sending may have done it */
#endif
			fi
#ifdef LOSE
		:: faults > 0 -> faults--; d_step { transact(ME, token, turn, MORE, done) }
		:: faults > 0 && late_place[ME] == NONE -> faults--;
			late_place[ME] = token; late_turn[ME] = turn; late_again[ME] = MORE
#endif
		:: !OWN(token) -> goto Settle   /* the session is over before it is sent */
		fi;
		lost = true; done = false
	}
	/* The connection broke: the same bytes again, unless the session is over. */
	atomic {
		if
		:: true ->
#ifdef NO_SAME_RESEND
			commit_made[ME] = NONE; late_other_id[ME] = (late_place[ME] != NONE);
#endif
			goto Send
		:: goto Settle
		fi
	}

Settle: /* Queue.Settle: first the place goes, and with it any chance of a commit … */
	atomic {
		lost = false; done = false;
#ifndef NO_SETTLE_DELETE
		delete(ME, token);
#endif
		if
		:: commit_made[ME] != NONE -> delete(ME, commit_made[ME]); commit_made[ME] = NONE
		:: else
		fi
	}
	/* … then head tells. Agent.committed: the frame there must be ours. */
	atomic {
		if
#ifdef NO_SETTLE_DELETE
		:: head_turn <= turn -> goto Leave      /* the place goes only now */
#else
		:: head_turn <= turn -> REACHED(unknown_not); goto Join
#endif
#ifndef NO_SETTLE_TOKEN
		:: head_turn > turn && !OURS(turn) -> REACHED(unknown_others); goto Join
#endif
		:: else -> REACHED(unknown_committed); goto Receipt
		fi
	}

Committed:
#ifdef NO_PLACE_DELETE
	delete(ME, token);      /* in a request of its own */
#endif

Receipt: /* File.Receipt, under the flock again; it is a single write. */
	atomic {
		LOCK_IS_FREE;
#ifndef NO_RECEIPT_PROOF
		/* ZooKeeper may just have gone back in time, and somebody have cut us off. */
		if
		:: !OURS(turn) -> REACHED(refused_ack); goto Exit
		:: else
		fi;
#endif
#ifndef NO_RECEIPT
		if
		:: fence_by == ME + 1 -> fence_turn = turn + 1
#ifndef NO_RECEIPT_TURN
		/* … or be about to: who came next did not know of our turn. */
		:: fence_by != ME + 1 && fence_turn <= turn -> REACHED(refused_ack); goto Exit
#endif
		:: else -> REACHED(noted_by_newer)
		fi
#endif
	}
	/* Agent.acknowledge */
	d_step {
		ALWAYS(acknowledged_is_committed, (rolled_back || head_turn > turn) && size > turn && OURS(turn));
		ALWAYS(acknowledged_is_on_disk, synced > turn);
		check_once(turn);
		if
		:: turn + 1 > acknowledged -> acknowledged = turn + 1
		:: else
		fi;
		taken++;
		token = commit_made[ME]; commit_made[ME] = NONE; turn = 0
	}
#ifdef NO_ACK_ORDER
	goto Send
#endif
	if
	:: token != NONE -> goto Wait
	:: else -> goto Again
	fi;

Fenced: /* Agent.abandon: is it really over? Hold.Confirm asks ZooKeeper. */
	atomic {
		if
		:: OWN(token) -> REACHED(refused_fence); goto Exit
		:: else -> REACHED(fenced)
		fi
	}
Leave:  /* Hold.Release; whatever was written is the next holder's to put aside */
	atomic { delete(ME, token); goto Join };
Again:  skip

	} unless { killed[ME] ->
		/* Started again: what the dead one had taken is its caller's to find out about. */
		d_step {
			killed[ME] = false; commit_made[ME] = NONE;
			if
			:: taken < RECORDS -> taken++
			:: else
			fi;
			token = NONE; ahead = NONE; turn = 0; by = NONE; lost = false; done = false; j = 0
		}
	}
	od;
Exit:   /* refused, or all records are done with */
	atomic {
		ALSO(refused_only_for_a_reason, taken == RECORDS || rolled_back || was_cut);
		close(ME);
		gone[ME] = true; finished++;
		taken = 0; token = NONE; turn = 0; by = NONE; ahead = NONE; lost = false; done = false;
		if
		:: finished == AGENTS && acknowledged == AGENTS * RECORDS && faults == FAULTS -> REACHED(all_acknowledged)
		:: finished == AGENTS && faults == 0 -> REACHED(all_faults)
		:: else
		fi
	}
}

/* ------------------------------------------------------- what the world does to them */

#define RUNS(agent) (!gone[agent] && !killed[agent])

inline kill_running(agent) {
	if
	:: RUNS(agent) -> kill(agent)
	:: else
	fi
}

/* A request of a connection that was given up arrives after all. Its answer goes nowhere. */
inline arrive(agent) {
	transact(agent, late_place[agent], late_turn[agent], late_again[agent], arrived);
	if
	:: arrived -> REACHED(late_done);
#ifdef NO_SAME_RESEND
		if
		:: late_other_id[agent] -> commit_made[agent] = NONE
		:: else
		fi
#endif
	:: else -> REACHED(late_refused)
	fi;
	arrived = false
}

active proctype World() {
	bit arrived;
	byte j;
end:
	do
	/* Sessions of the dead expire. */
	:: d_step { orphans[0] -> orphans[0] = 0 }
	:: d_step { orphans[1] -> orphans[1] = 0 }
#if AGENTS > 2
	:: d_step { orphans[2] -> orphans[2] = 0 }
#endif

	:: d_step { late_place[0] != NONE -> arrive(0); forget(0) }
	:: d_step { late_place[0] != NONE -> forget(0) }
	:: d_step { late_place[1] != NONE -> arrive(1); forget(1) }
	:: d_step { late_place[1] != NONE -> forget(1) }
#if AGENTS > 2
	:: d_step { late_place[2] != NONE -> arrive(2); forget(2) }
	:: d_step { late_place[2] != NONE -> forget(2) }
#endif

#ifdef EVICT
	/* A session expires under a living agent, or somebody evicts its place. */
	:: d_step { faults > 0 && places[0] -> faults--; places[0] = 0 }
	:: d_step { faults > 0 && places[1] -> faults--; places[1] = 0 }
#if AGENTS > 2
	:: d_step { faults > 0 && places[2] -> faults--; places[2] = 0 }
#endif
#endif

#ifdef CRASH
	:: d_step { faults > 0 && RUNS(0) -> faults--; kill(0) }
	:: d_step { faults > 0 && RUNS(1) -> faults--; kill(1) }
#if AGENTS > 2
	:: d_step { faults > 0 && RUNS(2) -> faults--; kill(2) }
#endif
#endif

#ifdef POWER
	/* The machine loses power, and all agents with it; ZooKeeper does not. What was not
	   synced is there, or not, or in part; the fence may be what it was at the beginning. */
	:: atomic {
		faults > 0 -> faults--;
		kill_running(0); kill_running(1);
#if AGENTS > 2
		kill_running(2);
#endif
		if
		:: true
		:: size > synced -> REACHED(power_frame); d_step { cut(synced); skip }
		:: size > synced -> cell_record[synced] = TORN
		fi;
		synced = size;
		if
		:: true
		:: fence_token > 0 -> REACHED(power_fence); fence_token = 0; fence_turn = 0; fence_by = 0
		fi
	}
#endif

#ifdef CUT
	/* With all agents stopped the file is cut at a turn's boundary, below head. What is
	   lost by that is lost; but nobody may go on as if nothing had happened. */
	:: atomic {
		faults > 0 && head_turn > 0 && NOTHING_LATE -> faults--;
		kill_running(0); kill_running(1);
#if AGENTS > 2
		kill_running(2);
#endif
		d_step { cut(head_turn - 1); skip };
		synced = size; was_cut = true;
		if
		:: acknowledged > size -> acknowledged = size
		:: else
		fi
	}
#endif

#ifdef ROLLBACK
	/* ZooKeeper is restored to what it was at some moment before. */
	:: d_step { !backed_up ->
		backed_up = true; old_turn = head_turn; old_token = head_token;
		old_places[0] = places[0]; old_orphans[0] = orphans[0];
		old_places[1] = places[1]; old_orphans[1] = orphans[1];
		old_next_token = next_token
	}
	:: atomic { backed_up && !rolled_back ->
		rolled_back = true; head_turn = old_turn; head_token = old_token;
		orphans[0] = old_orphans[0]; orphans[1] = old_orphans[1];
		/* The servers were started again: what was under way to the old ones is gone. */
		forget(0); forget(1);
		/* A session of then goes on, or it is gone. */
		if
		:: places[0] = old_places[0]
		:: old_places[0] -> places[0] = 0; orphans[0] = orphans[0] | old_places[0]
		fi;
		if
		:: places[1] = old_places[1]
		:: old_places[1] -> places[1] = 0; orphans[1] = orphans[1] | old_places[1]
		fi;
		old_places[0] = 0; old_orphans[0] = 0; old_places[1] = 0; old_orphans[1] = 0;
		old_turn = 0; old_token = 0;
		/* Zxids go on in a higher epoch; but if there were elections since the copy was
		   made, or the server stands alone, they come again. */
		if
		:: true
		:: next_token = old_next_token
		fi;
		old_next_token = 0
	}
#endif
	od
}

#ifdef LIVENESS
/* With weak fairness, and finitely many faults: everybody is done in the end. */
ltl live { <> (finished == AGENTS) }
#endif
