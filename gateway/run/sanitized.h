/*
 * sanitized.h - whether this build carries a sanitizer's runtime, which needs more of the machine
 * than a gateway: CG_SANITIZED is 1 or 0.
 */
#ifndef CELLGATE_SANITIZED_H
#define CELLGATE_SANITIZED_H

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CG_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define CG_SANITIZED 1
#endif
#endif
#ifndef CG_SANITIZED
#define CG_SANITIZED 0
#endif

#endif
