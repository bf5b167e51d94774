/* zig's unwinder prints its errors on ppc64le by functions that glibc has from 2.32 on, for programs with another format of long
 * double. It prints no long double, so that those of 2.28 do the same. */
extern int in_2_28_fprintf(void *, const char *, __builtin_va_list) __asm__("vfprintf");
extern int in_2_28_printf(const char *, __builtin_va_list) __asm__("vprintf");
extern int in_2_28_snprintf(char *, unsigned long, const char *, __builtin_va_list) __asm__("vsnprintf");

int __fprintfieee128(void *to, const char *format, ...) {
  __builtin_va_list list;
  __builtin_va_start(list, format);
  int printed = in_2_28_fprintf(to, format, list);
  __builtin_va_end(list);
  return printed;
}

int __printfieee128(const char *format, ...) {
  __builtin_va_list list;
  __builtin_va_start(list, format);
  int printed = in_2_28_printf(format, list);
  __builtin_va_end(list);
  return printed;
}

int __snprintfieee128(char *to, unsigned long size, const char *format, ...) {
  __builtin_va_list list;
  __builtin_va_start(list, format);
  int printed = in_2_28_snprintf(to, size, format, list);
  __builtin_va_end(list);
  return printed;
}
