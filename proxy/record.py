class R:
    lost=0
    def waiting(self): return 0
recorder=R()
