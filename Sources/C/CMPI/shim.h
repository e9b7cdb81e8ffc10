// The few calls of MPI that the ranks of a run make. MPI's constants are macros of a kind that Swift does not see.
// Source: MPI: A Message-Passing Interface Standard, version 3.1, sections 3.2, 3.7, 3.8 and 8.7.
#ifndef SLUICE_MPI_H
#define SLUICE_MPI_H
#include <mpi.h>
#include <stddef.h>

typedef MPI_Request sluice_mpi_request;

// 0 where MPI is there for one thread at a time.
static inline int sluice_mpi_begin(void) {
    int provided = MPI_THREAD_SINGLE;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &provided) != MPI_SUCCESS) return 1;
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    return provided < MPI_THREAD_SERIALIZED;
}

static inline int sluice_mpi_rank(void) {
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return rank;
}

static inline int sluice_mpi_count(void) {
    int count = 1;
    MPI_Comm_size(MPI_COMM_WORLD, &count);
    return count;
}

// The bytes stay where they are until the request is done.
static inline int sluice_mpi_send(const void *bytes, int count, int to, int tag, sluice_mpi_request *request) {
    return MPI_Isend(bytes, count, MPI_BYTE, to, tag, MPI_COMM_WORLD, request);
}

// 1 where it is done, 0 where not yet, -1 where it failed.
static inline int sluice_mpi_is_done(sluice_mpi_request *request) {
    int done = 0;
    return MPI_Test(request, &done, MPI_STATUS_IGNORE) == MPI_SUCCESS ? done : -1;
}

// Bytes of the next message with this tag, from anyone where `from` is -1, and who sent it; -1 where none is there.
static inline int sluice_mpi_next(int from, int tag, int *sender) {
    MPI_Status status;
    int there = 0, count = 0;
    if (MPI_Iprobe(from < 0 ? MPI_ANY_SOURCE : from, tag, MPI_COMM_WORLD, &there, &status) != MPI_SUCCESS || !there)
        return -1;
    MPI_Get_count(&status, MPI_BYTE, &count);
    *sender = status.MPI_SOURCE;
    return count;
}

static inline int sluice_mpi_receive(void *bytes, int count, int from, int tag) {
    return MPI_Recv(bytes, count, MPI_BYTE, from, tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

static inline void sluice_mpi_abort(int code) { MPI_Abort(MPI_COMM_WORLD, code); }

static inline int sluice_mpi_end(void) { return MPI_Finalize(); }

#endif
